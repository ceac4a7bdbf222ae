"use strict";
// Frames come from the model on this machine, by a WebSocket; see `show.py`.
const source = (() => {
  const address = location.href.replace(/^http/, "ws").replace(/[?#].*$/, "") + "film";
  const socket = new WebSocket(address);
  socket.binaryType = "arraybuffer";
  socket.onopen = () => { film.open = true; };
  socket.onmessage = ({ data }) => {
    if (typeof data === "string") { told(JSON.parse(data)); return; }
    const head = new DataView(data, 0, 8);
    draw(new Uint8Array(data, 8), head.getUint32(0, true), head.getUint32(4, true));
  };
  socket.onclose = event => over(event.reason || "The film is over: ldf-video play was stopped.");
  return { ask: what => { if (socket.readyState === 1) socket.send(JSON.stringify(what)); } };
})();
