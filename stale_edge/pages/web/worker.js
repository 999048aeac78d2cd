// Network and image tower, off the page's thread: by WebAssembly with SIMD, the tower by WebGPU where there is one.
import { crop } from "./crop.js";

// Memory of WebAssembly is what a run takes; the runtime does not tell it.
const memories = new Set();
WebAssembly.Memory = class extends WebAssembly.Memory {
  constructor(...words) {
    super(...words);
    memories.add(this);
  }
};
const memoryBytes = () => [...memories].reduce((sum, memory) => sum + memory.buffer.byteLength, 0);

const MAX_THREADS = 4;
const TRIAL_ROWS = 8;
// For each file, its session and the build of the runtime that it is of.
const sessions = {};
let site = null;

async function adapter() {
  if (!navigator.gpu) return null;
  try {
    return await navigator.gpu.requestAdapter();
  } catch {
    return null;
  }
}

// Build of the runtime for a provider; browsers load a module once.
async function runtime(provider) {
  const ort = await import(new URL(site.runtime[provider], import.meta.url));
  ort.env.wasm.wasmPaths = new URL("runtime/", import.meta.url).href;
  ort.env.wasm.numThreads = self.crossOriginIsolated ? Math.min(MAX_THREADS, navigator.hardwareConcurrency || 1) : 1;
  ort.env.logLevel = "error";
  return ort;
}

// A network decodes in float64, which the build for WebGPU lacks, and takes milliseconds; the tower is what takes long.
async function providersOf(kind, file, engine) {
  const gpu = kind === "tower" && engine !== "wasm" ? await adapter() : null;
  const fits = gpu && (file.precision === "fp32" || (file.precision === "fp16" && gpu.features.has("shader-f16")));
  return fits ? ["webgpu", "wasm"] : ["wasm"];
}

async function open(wanted, engine) {
  site = wanted;
  const engines = {};
  let threads = 1;
  for (const [kind, file] of [["model", site.model], ["tower", site.tower]]) {
    if (!file) continue;
    const content = await fetched(kind, file);
    for (const provider of await providersOf(kind, file, engine)) {
      try {
        const ort = await runtime(provider);
        sessions[kind] = { ort, session: await ort.InferenceSession.create(content, { executionProviders: [provider], logSeverityLevel: 3 }) };
        await trial(kind);
        engines[kind] = provider;
        threads = ort.env.wasm.numThreads;
        break;
      } catch (error) {
        if (provider === "wasm") throw error;
      }
    }
  }
  return { engines, threads, memory: memoryBytes() };
}

async function fetched(kind, file) {
  const answer = await fetch(new URL(file.file, import.meta.url));
  if (!answer.ok) throw new Error(`${file.file} cannot be read (${answer.status})`);
  const content = new Uint8Array(file.bytes), reader = answer.body.getReader();
  let at = 0;
  for (let part = await reader.read(); !part.done; part = await reader.read()) {
    if (at + part.value.length > content.length) break;
    content.set(part.value, at);
    at += part.value.length;
    postMessage({ loaded: kind, part: at / content.length });
  }
  if (at !== content.length) throw new Error(`${file.file} holds ${at} bytes, not ${content.length}: copy the site again`);
  return content;
}

async function trial(kind) {
  if (kind === "tower") await embed([new Uint8Array(3 * site.tower.image_size ** 2)]);
  else {
    const rows = site.model.resize_to || Math.max(site.model.min_snippets, TRIAL_ROWS);
    await detect(new Float32Array(rows * site.model.feature_dim), rows);
  }
}

async function embed(pictures) {
  const { image_size: size, feature_dim: width } = site.tower, each = 3 * size * size;
  const pixels = new Uint8Array(each * pictures.length);
  pictures.forEach((one, place) => pixels.set(one, place * each));
  const { ort, session } = sessions.tower;
  const { image_embeddings: found } = await session.run({ pixels: new ort.Tensor("uint8", pixels, [pictures.length, size, size, 3]) });
  if (found.data.length !== pictures.length * width || !found.data.every(Number.isFinite)) throw new Error("the image tower answers with NaN or of another size");
  return Float32Array.from(found.data);
}

async function detect(values, rows) {
  const { ort, session } = sessions.model;
  const { segments, labels, scores } = await session.run({ features: new ort.Tensor("float32", values, [1, rows, site.model.feature_dim]) });
  // A file that decodes inside tells by a row of NaN that its network answers with no numbers.
  if (![segments, scores].every((one) => one.data.every(Number.isFinite))) throw new Error("the network answers with NaN or infinity: the features are not those that it learned from");
  return Array.from(scores.data, (score, row) => ({
    start: segments.data[2 * row], end: segments.data[2 * row + 1], label: site.model.classes[Number(labels.data[row])], score,
  }));
}

const actions = {
  open: ({ site: wanted, engine }) => open(wanted, engine),
  embed: async ({ frames }) => {
    const begun = performance.now(), { image_size: size, swap } = site.tower;
    const pictures = frames.map((frame) => crop(frame, size, swap)), cropped = performance.now();
    const rows = await embed(pictures);
    return { rows, crop_ms: cropped - begun, tower_ms: performance.now() - cropped, memory: memoryBytes() };
  },
  detect: async ({ values, rows }) => {
    const begun = performance.now(), found = await detect(values, rows);
    return { found, network_ms: performance.now() - begun, memory: memoryBytes() };
  },
};

addEventListener("message", async ({ data }) => {
  try {
    postMessage({ id: data.id, answer: await actions[data.action](data) });
  } catch (error) {
    postMessage({ id: data.id, problem: String(error && error.message ? error.message : error).slice(0, 300) });
  }
});
