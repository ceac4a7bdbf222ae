"use strict";
// Frames are made on this page, by ONNX Runtime Web; `html.py` puts all that it needs into the page.
const settings = JSON.parse($("settings").textContent);

// -- what is packed in the page

function unpack(text, length) {  // see packing.py
  const out = new Uint8Array(length), { forbidden } = settings.packing;
  let bits = 0, count = 0, at = 0;
  const add = seven => {
    bits = (bits << 7) | seven;
    count += 7;
    if (count >= 8 && at < length) { count -= 8; out[at++] = bits >> count; }
    bits &= (1 << count) - 1;
  };
  for (let i = 0; i < text.length; i++) {
    const code = text.charCodeAt(i);
    if (code < 128) add(code);
    else { add(forbidden.charCodeAt((code - 128) >> 7)); add(code & 127); }
  }
  return out;
}

async function part(name) {  // bytes, which are packed deflated
  const { length } = settings.packing.parts[name], element = $("part-" + name);
  const packed = new Blob([unpack(element.textContent, length)]);
  element.remove();
  const stream = packed.stream().pipeThrough(new DecompressionStream("deflate"));
  return new Uint8Array(await new Response(stream).arrayBuffer());
}

function halves() {  // the numbers of all float16
  const table = new Float32Array(65536);
  for (let code = 0; code < 65536; code++) {
    const sign = code >> 15 ? -1 : 1, exponent = (code >> 10) & 31, fraction = code & 1023;
    table[code] = sign * (exponent === 0 ? fraction * 2 ** -24
      : exponent === 31 ? (fraction ? NaN : Infinity) : (1 + fraction / 1024) * 2 ** (exponent - 15));
  }
  return table;
}

function expand(bytes, parts, half) {  // weights as graphs want them, float32; see html.py
  const out = new Float32Array(parts.reduce((sum, part) => sum + part.count, 0));
  const numbers = (kind, from, count) =>
    new kind(bytes.slice(from, from + count * kind.BYTES_PER_ELEMENT).buffer);
  let from = 0, to = 0;
  for (const { count, kind, along, scales } of parts) {
    if (kind === "single") out.set(numbers(Float32Array, from, count), to);
    else if (kind === "half")
      numbers(Uint16Array, from, count).forEach((code, i) => { out[to + i] = half[code]; });
    else {
      const scale = numbers(Float32Array, from, scales);
      from += 4 * scales;
      numbers(Int8Array, from, count).forEach((whole, i) => {
        out[to + i] = whole * scale[along ? i % scales : Math.floor(i / (count / scales))];
      });
    }
    from += count * (kind === "single" ? 4 : kind === "half" ? 2 : 1);
    to += count;
  }
  return new Uint8Array(out.buffer);
}

// -- the model

class Chance {  // normal numbers, the same for a seed as in `graphs.py`
  constructor(seed) { this.state = seed >>> 0; }
  uniform() {  // mulberry32
    this.state = (this.state + 0x6D2B79F5) >>> 0;
    let t = this.state;
    t = Math.imul(t ^ (t >>> 15), t | 1);
    t ^= t + Math.imul(t ^ (t >>> 7), t | 61);
    return (((t ^ (t >>> 14)) >>> 0) + 1) / 4294967296;
  }
  normal(count) {  // Box and Muller
    const out = new Float32Array(count);
    for (let i = 0; i < count; i += 2) {
      const radius = Math.sqrt(-2 * Math.log(this.uniform())), angle = 2 * Math.PI * this.uniform();
      out[i] = radius * Math.cos(angle);
      if (i + 1 < count) out[i + 1] = radius * Math.sin(angle);
    }
    return out;
  }
}

class Model {
  async load() {
    if (!self.DecompressionStream)
      throw new Error("it needs Chrome 80, Firefox 113, Safari 16.4 or a newer one.");
    const code = URL.createObjectURL(new Blob([await part("runtime")], { type: "text/javascript" }));
    this.ort = await import(code);
    const { env, InferenceSession } = this.ort, half = halves();
    env.wasm.wasmBinary = (await part("wasm")).buffer;
    env.wasm.numThreads = self.crossOriginIsolated ? settings.threads : 1;
    for (const name of ["block", "frames"]) {
      const weights = expand(await part(name + "-weights"), settings.weights[name], half);
      this[name] = await InferenceSession.create(await part(name), {
        executionProviders: ["wasm"],
        externalData: [{ path: name + ".weights", data: weights }],
      });
    }
    const codes = new Uint16Array((await part("starts")).buffer);
    this.starts = Float32Array.from(codes, code => half[code]);
  }

  tensor(data, ...shape) { return new this.ort.Tensor("float32", data, shape); }

  async start(seed) {  // a known past, and what it leaves
    const { block, size, layers, kept, num_starts: count } = settings;
    this.chance = new Chance(seed);
    this.shown = null;
    this.past = {};
    for (const name of layers) this.past[name] = this.tensor(new Float32Array(kept.count), ...kept.shape);
    const length = this.starts.length / count, first = (seed % count) * length;
    const known = this.starts.subarray(first, first + length), step = block * size;
    this.seen = 0;
    this.told = unknown();
    this.newest = known.slice(0, step);
    for (let at = step; at < length; at += step) {
      await this.make(unknown(), new Float32Array(settings.passes * step));
      this.newest = known.slice(at, at + step);
    }
  }

  async make(told, noise) {  // the next block
    const { block, size, reach, passes } = settings;
    const visible = new Float32Array(reach).fill(-1e9, 0, Math.max(0, reach - this.seen));
    const after = new Float32Array(reach).fill(-1e9, 0, Math.max(0, reach - this.seen - block));
    const feeds = {
      newest: this.tensor(this.newest, 1, block, size),
      noise: this.tensor(noise, passes, 1, block, size),
      visible: this.tensor(Float32Array.of(...visible, ...after), 2, reach),
      ...this.past,
    };
    if (settings.columns.length) {
      const both = Float32Array.of(...this.told, ...told);
      feeds.told = this.tensor(both, 2, 1, block, settings.columns.length);
    }
    const found = await this.block.run(feeds);
    for (const name of settings.layers) this.past[name] = found["next_" + name];
    this.newest = found.tokens.data;
    this.told = told;
    this.seen = Math.min(this.seen + block, reach);
    return found.latents;
  }

  noise() {  // for all passes of a block: part of it is shared by the frames
    const { block, size, passes, shared_noise: share } = settings, out = [];
    for (let pass = 0; pass < passes; pass++) {
      const e = this.chance.normal((1 + block) * size);
      for (let i = 0; i < block * size; i++)
        out.push(Math.sqrt(share) * e[i % size] + Math.sqrt(1 - share) * e[size + i]);
    }
    return Float32Array.from(out);
  }

  async next(told) {  // RGB of the frames of a block
    const latents = await this.make(told, this.noise());
    const { frames } = await this.frames.run({ latents });
    const one = settings.height * settings.width * 3, out = [];
    for (let at = 0; at < frames.data.length; at += one)
      out.push(this.shown = steadied(frames.data.slice(at, at + one), this.shown));
    return out;
  }
}

function steadied(now, before) {  // a pixel that hardly changed stays as it was shown
  if (!before || !settings.hold) return now;
  for (let i = 0; i < now.length; i += 3) {
    const change = Math.max(...[0, 1, 2].map(c => Math.abs(now[i + c] - before[i + c])));
    if (change <= settings.hold) for (let c = 0; c < 3; c++) now[i + c] = before[i + c];
  }
  return now;
}

// -- what is held, as the model is told it

const unknown = () => new Float32Array(settings.block * settings.columns.length).fill(NaN);
let row = [];

function tell(names) {  // as `Held` in keys.py
  row = settings.columns.map((column, i) => column.rest ?? row[i] ?? NaN);
  for (const name of names) {
    const action = settings.actions.find(action => action.name === name);
    if (action) row[action.column] = action.value;
  }
}

// -- the film

const source = (() => {
  const model = new Model(), wake = [];
  let speed = 1, isPaused = false, seed = settings.seed, isNew = true, heard = 0, made = 0;
  let recorder = null;

  async function run() {
    say("Unpacking the model ...");
    await model.load();
    film.model = model;
    told({ ...settings, seed });
    say("");
    let due = performance.now();
    for (;;) {
      if (isNew) {
        isNew = false;
        row = [];
        tell([...film.held]);
        await model.start(seed);
        told({ seed });
      }
      const acted = heard;
      for (const rgb of await model.next(rowsOf())) {
        const wait = due - performance.now();
        await new Promise(done => setTimeout(done, Math.max(0, wait)));
        while (isPaused) await new Promise(done => wake.push(done));
        draw(rgb, ++made, acted);
        if (recorder) recorder.draw();
        due = Math.max(due, performance.now() - 100) + 1000 / (settings.fps * speed);
      }
    }
  }

  const rowsOf = () => Float32Array.from(Array(settings.block).fill(row).flat());

  const asks = {
    hold: ({ names, number }) => { tell(names); heard = number; },
    pause: is => { isPaused = is; wake.splice(0).forEach(done => done()); },
    speed: value => { speed = value; },
    restart: value => {
      seed = Number.isInteger(value) && value >= 0 ? value % 2 ** 31 : Math.floor(Math.random() * 2 ** 31);
      isNew = true;
    },
    record: is => { if (is) recorder = record(); else { recorder?.stop(); recorder = null; } },
  };
  run().catch(error => over("The film cannot be shown: " + error.message));
  return { ask: what => Object.keys(what).forEach(name => asks[name]?.(what[name])) };
})();

function record() {  // what is shown, larger, as the browser records it
  const large = document.createElement("canvas"), times = Math.ceil(256 / Math.min(canvas.width, canvas.height));
  large.width = canvas.width * times;
  large.height = canvas.height * times;
  const pen = large.getContext("2d");
  pen.imageSmoothingEnabled = false;
  const media = new MediaRecorder(large.captureStream(settings.fps)), parts = [];
  media.ondataavailable = ({ data }) => parts.push(data);
  media.onstop = () => {
    const link = document.createElement("a");
    link.href = URL.createObjectURL(new Blob(parts, { type: media.mimeType }));
    link.download = "played" + (media.mimeType.includes("mp4") ? ".mp4" : ".webm");
    link.click();
    told({ recording: false, note: `recorded ${link.download}` });
  };
  media.start();
  told({ recording: true, note: "recording" });
  return {
    draw: () => pen.drawImage(canvas, 0, 0, large.width, large.height),
    stop: () => media.stop(),
  };
}
