// The packed content of the page: names as lists, numbers as columns with a row for each detection or instance.
const bytesOf = (text) => {
  const raw = atob(text);
  const bytes = new Uint8Array(raw.length);
  for (let i = 0; i < raw.length; i++) bytes[i] = raw.charCodeAt(i);
  return bytes;
};
const column = (text, Kind) => new Kind(bytesOf(text).buffer);
const segmentsOf = (packed) => ({
  offsets: column(packed.offsets, Uint32Array), start: column(packed.start, Float32Array),
  end: column(packed.end, Float32Array), label: column(packed.label, Uint32Array),
});

const packed = JSON.parse(document.getElementById("packed").textContent);
const inSeconds = packed.seconds;
const classes = packed.classes;
const ids = packed.ids;
const lengths = column(packed.lengths, Float32Array);
const truth = packed.truth && segmentsOf(packed.truth);
const LETTERS = "ABCDEFGH";
const sets = packed.sets.map((set, place) => {
  const score = column(set.score, Float32Array);
  let top = 0;
  for (let row = 0; row < score.length; row++) if (score[row] > top) top = score[row];
  return { ...segmentsOf(set), name: set.name, note: set.note, letter: LETTERS[place], score, top, start_minimum: set.minimum,
    minimum: set.minimum, visible: true, verdict: set.verdict ? column(set.verdict, Uint8Array) : null,
    finder: set.finder ? column(set.finder, Int32Array) : null };
});

const UNJUDGED = 255;
const [TRUE, DOUBLE, WRONG, POOR, CONFUSED, BACKGROUND] = [0, 1, 2, 3, 4, 5];
const GLYPHS = ["✓", "2×", "≠", "~", "≠~", "∅"];
const glyphOf = (set, row) => (set.verdict && set.verdict[row] !== UNJUDGED ? GLYPHS[set.verdict[row]] : "");
const wordsOf = (set, row) => {
  if (!set.verdict) return "";
  return set.verdict[row] === UNJUDGED ? "not judged: class unknown to the ground truth" : packed.verdicts[set.verdict[row]];
};

// Classes to show; empty for all.
const only = new Set();
const isShown = (set, row) => set.score[row] >= set.minimum && (only.size === 0 || only.has(set.label[row]));
const visibleSets = () => sets.filter((set) => set.visible);
const rowsOf = (columns, video) => {
  const rows = [];
  for (let row = columns.offsets[video]; row < columns.offsets[video + 1]; row++) rows.push(row);
  return rows;
};
const instancesOf = (video) => (truth ? rowsOf(truth, video).filter((row) => only.size === 0 || only.has(truth.label[row])) : []);
const detectionsOf = (set, video) => rowsOf(set, video).filter((row) => isShown(set, row));
const finds = (set, instance) => set.finder[instance] >= 0 && set.score[set.finder[instance]] >= set.minimum;

const lengthOf = (video) => {
  let length = lengths[video];
  if (length > 0) return length;
  for (const columns of [...sets, ...(truth ? [truth] : [])]) {
    for (let row = columns.offsets[video]; row < columns.offsets[video + 1]; row++) length = Math.max(length, columns.end[row]);
  }
  return length > 0 ? length : 1;
};

// Counts of each video for one result file, at its least score and the chosen classes.
const tally = (set) => {
  const counts = { shown: 0, best: 0, found: 0, missed: 0, doubled: 0, wrong: 0, spurious: 0 };
  const found = Object.fromEntries(Object.keys(counts).map((name) => [name, new Float32Array(ids.length)]));
  for (let video = 0; video < ids.length; video++) {
    for (let row = set.offsets[video]; row < set.offsets[video + 1]; row++) {
      if (!isShown(set, row)) continue;
      found.shown[video] += 1;
      if (set.score[row] > found.best[video]) found.best[video] = set.score[row];
      if (!set.verdict) continue;
      const verdict = set.verdict[row];
      if (verdict === DOUBLE) found.doubled[video] += 1;
      else if (verdict === WRONG || verdict === CONFUSED) found.wrong[video] += 1;
      else if (verdict === POOR || verdict === BACKGROUND) found.spurious[video] += 1;
    }
    if (!set.finder) continue;
    for (let row = truth.offsets[video]; row < truth.offsets[video + 1]; row++) {
      if (only.size && !only.has(truth.label[row])) continue;
      found[finds(set, row) ? "found" : "missed"][video] += 1;
    }
  }
  return found;
};

// Times are m:ss or h:mm:ss; tenths where `fine`. Other units are plain numbers.
const clock = (time, fine = false) => {
  if (!inSeconds) return fine ? time.toFixed(1) : String(Math.round(time));
  const tenths = Math.round(Math.abs(time) * (fine ? 10 : 1)) / (fine ? 10 : 1);
  const hours = Math.floor(tenths / 3600), minutes = Math.floor(tenths / 60) % 60, seconds = tenths % 60;
  const text = (fine ? seconds.toFixed(1) : String(seconds)).padStart(fine ? 4 : 2, "0");
  return (time < 0 && tenths > 0 ? "−" : "") + (hours ? `${hours}:${String(minutes).padStart(2, "0")}:${text}` : `${minutes}:${text}`);
};
const spoken = (time) => (inSeconds ? clock(time, true) : `snippet ${Math.round(time)}`);
const number = (value) => value.toLocaleString("en");
const counted = (value, noun, plural = noun + "s") => `${number(value)} ${value === 1 ? noun : plural}`;
const scoreText = (score) => (Math.abs(score) >= 0.01 ? score.toFixed(2) : Number(score.toPrecision(1)).toString());
// Names of strangers may turn the direction of what follows; isolates keep that to themselves.
const isolated = (text) => `\u2068${text}\u2069`;

const at = (id) => document.getElementById(id);
const element = (tag, words = "", text = "") => {
  const made = document.createElement(tag);
  if (words) made.className = words;
  if (text !== "") made.textContent = text;
  return made;
};
const look = () => {
  const style = getComputedStyle(document.documentElement);
  const read = (name) => style.getPropertyValue(name).trim();
  const dark = document.documentElement.dataset.look === "dark";
  return { ink: read("--ink"), soft: read("--soft"), line: read("--line"), grid: read("--grid"), paper: read("--paper"),
    raised: read("--raised"), accent: read("--accent"), marked: read("--marked"),
    of: (label) => packed.looks[dark ? "dark" : "light"][packed.colours[label]] };
};
// Sizes a canvas for the pixels of the screen, empties it and gives what to draw with, in CSS pixels.
const prepared = (canvas, width, height) => {
  const ratio = window.devicePixelRatio || 1;
  canvas.width = Math.max(1, Math.round(width * ratio));
  canvas.height = Math.max(1, Math.round(height * ratio));
  canvas.style.width = `${width}px`;
  canvas.style.height = `${height}px`;
  const context = canvas.getContext("2d");
  context.scale(ratio, ratio);
  context.textBaseline = "middle";
  return context;
};
const FAMILY = 'system-ui, -apple-system, "Segoe UI", Roboto, "Helvetica Neue", Arial, sans-serif';
const font = (size, weight = 400) => `${weight} ${size}px ${FAMILY}`;
// Shortens a text to a width in pixels; the middle is left out.
const fitted = (context, text, width) => {
  if (context.measureText(text).width <= width) return text;
  const letters = [...text];
  let low = 0, high = letters.length;
  while (low < high) {
    const kept = (low + high + 1) >> 1;
    const short = letters.slice(0, Math.ceil(kept / 2)).join("") + "…" + letters.slice(letters.length - Math.floor(kept / 2)).join("");
    if (context.measureText(short).width <= width) low = kept;
    else high = kept - 1;
  }
  return low ? letters.slice(0, Math.ceil(low / 2)).join("") + "…" + letters.slice(letters.length - Math.floor(low / 2)).join("") : "";
};
