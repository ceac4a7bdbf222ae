"""`python -m ldf_video` is `ldf-video`."""

from ldf_video.cli import main

if __name__ == "__main__":
    main()
