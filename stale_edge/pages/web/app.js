// The page: takes files, has the worker run them, shows what was found and gives it away.
import { FrameReader } from "./frames.js";
import { Refusal, isNpy, medianRowLength, readNpy, readPlaces, resized, writeNpy } from "./npy.js";
import { playerContent, resultFile } from "./results.js";

const MAX_BYTES = 512 * 2 ** 20;
const FAR = 3.5;
const HEAD_BYTES = 8;
const CLAIM_MS = 5000;
const at = (id) => document.getElementById(id);
const counted = (value, noun) => `${value.toLocaleString("en")} ${noun}${value === 1 ? "" : "s"}`;
const megabytes = (bytes) => `${Math.round(bytes / 1e6).toLocaleString("en")} MB`;
const took = (ms) => (ms < 1000 ? `${Math.max(1, Math.round(ms))} ms` : `${(ms / 1000).toFixed(1)} s`);
const say = (text) => { at("state").textContent = text; };
const element = (tag, words, text = "") => Object.assign(document.createElement(tag), { className: words, textContent: text });

// ---- the worker, by question and answer
class Runner {
  constructor(site) {
    Object.assign(this, { site, waiting: new Map(), asked: 0 });
  }

  async start(engine) {
    if (this.worker) this.worker.terminate();
    this.worker = new Worker("worker.js", { type: "module" });
    this.worker.addEventListener("message", ({ data }) => this.hear(data));
    this.worker.addEventListener("error", (event) => this.fail(event.message || "the worker cannot be loaded"));
    return this.ask("open", { site: this.site, engine });
  }

  ask(action, values, transfer = []) {
    return new Promise((done, failed) => {
      this.waiting.set(++this.asked, [done, failed]);
      this.worker.postMessage({ id: this.asked, action, ...values }, transfer);
    });
  }

  hear(data) {
    if (data.loaded) {
      const parts = { ...this.parts, [data.loaded]: data.part };
      this.parts = parts;
      const files = [this.site.model, ...(this.site.tower ? [this.site.tower] : [])], total = files.reduce((sum, file) => sum + file.bytes, 0);
      const done = (parts.model || 0) * this.site.model.bytes + (parts.tower || 0) * (this.site.tower ? this.site.tower.bytes : 0);
      at("loading").value = done / total;
      say(done < total ? `Loading ${megabytes(done)} of ${megabytes(total)}` : "Starting the network");
      return;
    }
    const [done, failed] = this.waiting.get(data.id);
    this.waiting.delete(data.id);
    if (data.problem) failed(new Error(data.problem));
    else done(data.answer);
  }

  fail(problem) {
    for (const [, failed] of this.waiting.values()) failed(new Error(problem));
    this.waiting.clear();
  }
}

// ---- files
const idOf = (name) => name.replace(/\.[^.]*$/, "").replace(/^v_/, "") || name;
const isolate = (text) => `\u2068${text}\u2069`;

// A row of the list of files, with what becomes of it.
function entry(file) {
  const row = element("li", ""), name = element("bdi", "", file.name), bar = element("progress", ""), facts = element("span", "facts"), stop = element("button", "", "Stop");
  Object.assign(bar, { max: 1, value: 0 });
  stop.type = "button";
  row.append(name, stop, bar, facts);
  at("work").prepend(row);
  const made = {
    stopped: false,
    step: (part, text) => { bar.value = part; facts.textContent = text; },
    end: (text, failed = false) => { bar.remove(); stop.remove(); facts.textContent = text; row.classList.toggle("failed", failed); if (failed) name.remove(); },
  };
  stop.addEventListener("click", () => { made.stopped = true; });
  return made;
}

async function featuresOf(file, site) {
  if (file.size > MAX_BYTES) throw new Refusal(`holds ${megabytes(file.size)}, more than the ${megabytes(MAX_BYTES)} allowed; split the video`);
  return readNpy(await file.arrayBuffer(), site.model.feature_dim);
}

// Rows of a video: its frames, through the image tower, a batch at a time.
async function rowsOf(file, site, runner, shown) {
  const { tower, model } = site, address = URL.createObjectURL(file), times = { frames_ms: 0, crop_ms: 0, tower_ms: 0 };
  const reader = await FrameReader.open(address);
  try {
    const length = reader.samples(tower.step_s);
    const places = model.resize_to && model.resize_to !== length ? readPlaces(length, model.resize_to) : Array.from({ length }, (_, place) => place);
    const values = new Float32Array(places.length * tower.feature_dim);
    if (!model.resize_to) checkLength(length, model);
    for (let first = 0; first < places.length; first += tower.batch) {
      if (shown.stopped) throw new Refusal("was stopped");
      const begun = performance.now(), frames = [];
      for (const place of places.slice(first, first + tower.batch)) frames.push(await reader.at(place * tower.step_s));
      times.frames_ms += performance.now() - begun;
      const answer = await runner.ask("embed", { frames: frames.map(({ data, width, height }) => ({ data, width, height })) }, frames.map((frame) => frame.data.buffer));
      values.set(answer.rows, first * tower.feature_dim);
      times.crop_ms += answer.crop_ms;
      times.tower_ms += answer.tower_ms;
      const done = Math.min(places.length, first + tower.batch);
      shown.step(done / places.length, `${done} of ${counted(places.length, "frame")}, ${took(times.frames_ms + times.crop_ms + times.tower_ms)}`);
    }
    const features = { rows: length, width: tower.feature_dim, values };
    if (model.resize_to) Object.assign(features, { rows: model.resize_to, values: resized(values, tower.feature_dim, places, length, model.resize_to) });
    return { features, samples: length, duration: reader.duration, times };
  } finally {
    reader.close();
    URL.revokeObjectURL(address);
  }
}

function checkLength(rows, model) {
  if (rows >= model.min_snippets && rows <= model.max_snippets) return;
  const bounds = `${model.min_snippets.toLocaleString("en")} to ${model.max_snippets.toLocaleString("en")}`;
  throw new Refusal(`has ${counted(rows, "snippet")}, the model takes ${bounds}; cut it, or run \`stale-edge detect --window\` on a computer`);
}

// Detections of a video file, or of features; `media` is the video to show with features.
async function detect(file, kind, media, site, runner, shown) {
  const { model } = site;
  let given, samples, duration = null, times = {};
  if (kind === "video") ({ features: given, samples, duration, times } = await rowsOf(file, site, runner, shown));
  else {
    given = await featuresOf(file, site);
    samples = given.rows;
    if (media) duration = await lengthOf(media);
    else if (model.snippet_seconds) duration = samples * model.snippet_seconds;
  }
  const scale = medianRowLength(given), far = model.feature_norm && !(scale > model.feature_norm / FAR && scale < model.feature_norm * FAR);
  let { rows, values } = given;
  if (model.resize_to && rows !== model.resize_to) {
    values = resized(values, model.feature_dim, Array.from({ length: rows }, (_, place) => place), rows, model.resize_to);
    rows = model.resize_to;
  }
  checkLength(rows, model);
  shown.step(1, "finding actions");
  const answer = await runner.ask("detect", { values, rows });
  const shownVideo = kind === "video" ? file : media;
  return {
    id: idOf(file.name), rows: samples, ran: rows, duration, found: answer.found, features: kind === "video" ? given : null,
    media: shownVideo ? { name: shownVideo.name, address: URL.createObjectURL(shownVideo) } : null,
    times: { ...times, network_ms: answer.network_ms }, memory: answer.memory,
    warning: far ? `rows of features have a median length of ${scale.toPrecision(3)}, and the model learned ${model.feature_norm.toPrecision(3)}: detections mean little` : "",
  };
}

async function lengthOf(media) {
  const address = URL.createObjectURL(media);
  try {
    const reader = await FrameReader.open(address), { duration } = reader;
    reader.close();
    return duration;
  } finally {
    URL.revokeObjectURL(address);
  }
}

// Sorts files into work: features, videos for the tower, and videos that are shown with features of their name.
async function sorted(files, site) {
  const kinds = await Promise.all(files.map(async (file) => {
    const head = new Uint8Array(await file.slice(0, HEAD_BYTES).arrayBuffer());
    if (isNpy(head)) return "features";
    if (head[0] === 0x50 && head[1] === 0x4b) return "archive";
    return file.type.startsWith("video/") || /\.(mp4|m4v|webm|mov|mkv|ogv|avi)$/i.test(file.name) ? "video" : "other";
  }));
  const featured = new Set(files.filter((_, place) => kinds[place] === "features").map((file) => idOf(file.name)));
  const media = new Map(files.flatMap((file, place) => (kinds[place] === "video" && featured.has(idOf(file.name)) ? [[idOf(file.name), file]] : [])));
  return files.flatMap((file, place) => {
    const kind = kinds[place];
    if (kind === "video" && media.get(idOf(file.name)) === file) return [];
    return [{ file, kind, media: media.get(idOf(file.name)) || null, problem: problemOf(kind, site) }];
  });
}

function problemOf(kind, site) {
  const takes = site.tower ? "features (.npy) or a video" : "features (.npy)";
  if (kind === "archive") return "is an archive; unpack it: numpy.save('NEW.npy', numpy.load('NAME.npz')['features'])";
  if (kind === "video" && !site.tower) return "is a video, and this site has no image tower; build it with `stale-edge web --clip-image`, or add features of the same name";
  return kind === "other" ? `is neither of what this page takes: ${takes}` : "";
}

// ---- what is shown
class Page {
  constructor(site) {
    Object.assign(this, { site, videos: new Map(), queue: Promise.resolve(), runner: new Runner(site) });
    this.frame = at("player");
    const { name, precision, classes, untrained } = site.model;
    at("about").textContent = `${name}, ${precision}, ${counted(classes.length, "class").replace(/classs$/, "classes")}. Files stay on this device.`;
    at("devices").hidden = !site.tower || !navigator.gpu;
    if (untrained) this.warn("The weights are untrained: what this finds means nothing.");
    this.listen();
  }

  warn(text) {
    at("warning").hidden = !text;
    at("warning").textContent = text;
  }

  async start() {
    at("choose").disabled = true;
    at("loading").hidden = false;
    this.runner.parts = {};
    const begun = performance.now();
    try {
      const { engines, threads, memory } = await this.runner.start(at("engine").value);
      const names = { webgpu: "WebGPU", wasm: counted(threads, "thread") };
      const used = [...new Set(Object.values(engines))].map((one) => names[one]).join(" and ");
      say(`Ready in ${took(performance.now() - begun)}: ${used}, ${megabytes(memory)} of memory.`);
      Object.assign(document.documentElement.dataset, { ready: "yes", engines: JSON.stringify(engines), threads });
      at("choose").disabled = false;
    } catch (error) {
      say(`The network cannot be started here: ${error.message}.`);
      document.documentElement.dataset.ready = "no";
    }
    at("loading").hidden = true;
  }

  listen() {
    const drop = document.body;
    at("choose").addEventListener("click", () => at("files").click());
    at("files").addEventListener("change", () => { this.take([...at("files").files]); at("files").value = ""; });
    at("engine").addEventListener("change", () => { this.queue = this.queue.then(() => this.start()); });
    at("save").addEventListener("click", () => this.save());
    at("save-features").addEventListener("click", () => this.saveFeatures());
    drop.addEventListener("dragover", (event) => { event.preventDefault(); at("drop").classList.add("over"); });
    drop.addEventListener("dragleave", () => at("drop").classList.remove("over"));
    drop.addEventListener("drop", (event) => {
      event.preventDefault();
      at("drop").classList.remove("over");
      this.take([...event.dataTransfer.files]);
    });
    document.addEventListener("look", () => this.matchLook());
    this.frame.addEventListener("load", () => this.matchLook());
  }

  // The player inside has a look of its own, which follows that of the page.
  matchLook() {
    const inside = this.frame.contentDocument, button = inside && inside.getElementById("theme");
    if (button && inside.documentElement.dataset.look !== document.documentElement.dataset.look) button.click();
  }

  take(files) {
    if (document.documentElement.dataset.ready !== "yes") return;
    this.queue = this.queue.then(() => this.work(files));
  }

  async work(files) {
    let found = 0;
    for (const { file, kind, media, problem } of await sorted(files, this.site)) {
      const shown = entry(file);
      try {
        if (problem) throw new Refusal(problem);
        const video = await detect(file, kind, media, this.site, this.runner, shown);
        const before = this.videos.get(video.id);
        if (before && before.media) URL.revokeObjectURL(before.media.address);
        this.videos.delete(video.id);
        this.videos.set(video.id, video);
        shown.end(this.facts(video));
        found += 1;
      } catch (error) {
        const cure = error instanceof Refusal ? "" : "; try shorter or other files, or load the page again";
        shown.end(`${isolate(file.name)} ${error instanceof Refusal ? "" : "cannot be run: "}${error.message}${cure}.`, true);
      }
    }
    if (found) this.show();
  }

  facts({ found, rows, times, memory, warning }) {
    const parts = [counted(found.length, "detection"), counted(rows, "snippet")];
    if (times.tower_ms !== undefined) parts.push(`frames ${took(times.frames_ms)}`, `crops ${took(times.crop_ms)}`, `image tower ${took(times.tower_ms)}`);
    parts.push(`network ${took(times.network_ms)}`, `memory ${megabytes(memory)}`);
    return parts.join(" · ") + (warning ? `. Another scale: ${warning}` : "");
  }

  show() {
    const videos = [...this.videos.values()];
    window.playerContent = JSON.stringify(playerContent(videos, this.site));
    document.body.classList.add("with-results");
    at("outcome").hidden = false;
    at("save-features").hidden = !videos.some((video) => video.features);
    this.frame.hidden = false;
    if (this.frame.contentWindow.location.href === "about:blank") this.frame.src = "player.html";
    else this.frame.contentWindow.location.reload();
    document.documentElement.dataset.shown = videos.length;
  }

  save() {
    const content = JSON.stringify(resultFile([...this.videos.values()], this.site.model), null, 1);
    give(new Blob([content + "\n"], { type: "application/json" }), "results.json");
  }

  saveFeatures() {
    for (const { id, features } of this.videos.values()) if (features) give(writeNpy(features.values, features.rows, features.width), `${id}.npy`);
  }
}

function give(blob, name) {
  const link = Object.assign(document.createElement("a"), { href: URL.createObjectURL(blob), download: name });
  link.click();
  setTimeout(() => URL.revokeObjectURL(link.href), 60000);
}

// Lets the service worker see all that is loaded from here on, so that it keeps it for use without a network. A page
// that it did not open yet has no threads, and is opened once more before it loads anything.
async function keep() {
  if (!navigator.serviceWorker) return;
  try {
    await navigator.serviceWorker.register("service.js");
    if (!navigator.serviceWorker.controller) {
      const claimed = new Promise((done) => navigator.serviceWorker.addEventListener("controllerchange", done, { once: true }));
      await Promise.race([claimed, new Promise((done) => setTimeout(done, CLAIM_MS))]);
    }
    if (crossOriginIsolated || !navigator.serviceWorker.controller || sessionStorage.getItem(location.pathname)) return;
    sessionStorage.setItem(location.pathname, "opened again");
    location.reload();
    await new Promise(() => {});
  } catch {
    // Without it, the page needs its server again next time.
  }
}

say("Loading");
await keep();
try {
  const answer = await fetch("site.json");
  if (!answer.ok) throw new Error(`site.json cannot be read (${answer.status})`);
  await new Page(await answer.json()).start();
} catch (error) {
  say(`The site is not whole: ${error.message}. Build it again with \`stale-edge web\`.`);
}
