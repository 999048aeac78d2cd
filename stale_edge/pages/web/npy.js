// Reading of .npy files from anyone: floats of two, four or eight bytes, both byte orders and layouts, two axes.
export class Refusal extends Error {}

const MAGIC = [0x93, 0x4e, 0x55, 0x4d, 0x50, 0x59];
const SAVE = "save them with numpy.save as float16, float32 or float64 with two axes";
const DAMAGED = "it is damaged; get it again";
const MAX_HEADER = 4096;

export const isNpy = (bytes) => MAGIC.every((value, place) => bytes[place] === value);
const number = (value) => value.toLocaleString("en");

// Gives { rows, width, values }: float32 values row by row, all finite. `width` is what a row must have.
export function readNpy(buffer, width) {
  const bytes = new Uint8Array(buffer);
  if (!isNpy(bytes)) throw new Refusal("is no .npy file");
  const view = new DataView(buffer), wide = bytes[6] === 1 ? 2 : 4;
  if (![1, 2, 3].includes(bytes[6]) || bytes[7] !== 0 || bytes.length < 8 + wide) throw new Refusal(`is no array of NPY format 1, 2 or 3; ${SAVE}`);
  const length = wide === 2 ? view.getUint16(8, true) : view.getUint32(8, true), begin = 8 + wide + length;
  if (length > MAX_HEADER || begin > bytes.length) throw new Refusal(`announces a header of ${number(length)} bytes; ${DAMAGED}`);
  const { descr, fortran, shape } = readHeader(new TextDecoder("latin1").decode(bytes.subarray(8 + wide, begin)));
  const size = Number(descr.at(-1)), count = shape.reduce((product, one) => product * one, 1);
  if (count * size !== bytes.length - begin) throw new Refusal(`announces ${shape.join(" x ")} (${number(count * size)} bytes) and holds ${number(bytes.length - begin)}; ${DAMAGED}`);
  if (shape.length !== 2) throw new Refusal(`has ${shape.length} axes [${shape.slice(0, 8).join(", ")}], not [snippets, ${width}]; ${SAVE}`);
  const [rows, found] = shape;
  if (found !== width) {
    const turned = rows === width ? " (the published layout?); transpose it: numpy.save(path, array.T)" : "; make features that fit the model";
    throw new Refusal(`is [${number(rows)}, ${number(found)}], not [snippets, ${width}]${turned}`);
  }
  if (!rows) throw new Refusal("holds no snippets; make it again");
  const flat = readFloats(view, begin, count, size, !descr.startsWith(">"));
  const values = fortran ? transposed(flat, rows, width) : flat;
  checkFinite(values, rows, width);
  return { rows, width, values };
}

function readHeader(text) {
  const body = text.trim();
  const descr = /['"]descr['"]\s*:\s*['"]([^'"]{0,40})['"]/.exec(body), flag = /['"]fortran_order['"]\s*:\s*(True|False)/.exec(body);
  const sizes = /['"]shape['"]\s*:\s*\(([0-9, L]{0,200})\)/.exec(body);
  if (descr && descr[1].includes("O")) throw new Refusal("holds Python objects, which can run code and are never opened; save floats");
  if (descr && !/^[<>=]?f[248]$/.test(descr[1])) throw new Refusal(`holds elements of type '${descr[1]}'; ${SAVE}`);
  if (!descr || !flag || !sizes || !body.startsWith("{") || !body.endsWith("}")) throw new Refusal("has a damaged header; get it again");
  const shape = sizes[1].split(",").map((word) => word.trim().replace(/L$/, "")).filter(Boolean).map(Number);
  if (!shape.every(Number.isSafeInteger)) throw new Refusal("has a damaged header; get it again");
  return { descr: descr[1], fortran: flag[1] === "True", shape };
}

function readFloats(view, begin, count, size, little) {
  const values = new Float32Array(count);
  if (size === 2) for (let i = 0; i < count; i++) values[i] = half(view.getUint16(begin + 2 * i, little));
  else if (size === 4) for (let i = 0; i < count; i++) values[i] = view.getFloat32(begin + 4 * i, little);
  else for (let i = 0; i < count; i++) values[i] = view.getFloat64(begin + 8 * i, little);
  return values;
}

function half(bits) {
  const sign = bits & 0x8000 ? -1 : 1, exponent = (bits >> 10) & 31, fraction = bits & 1023;
  if (exponent === 31) return fraction ? NaN : sign * Infinity;
  return sign * (exponent ? 2 ** (exponent - 15) * (1 + fraction / 1024) : 2 ** -14 * (fraction / 1024));
}

function transposed(flat, rows, width) {
  const values = new Float32Array(flat.length);
  for (let column = 0; column < width; column++) for (let row = 0; row < rows; row++) values[row * width + column] = flat[column * rows + row];
  return values;
}

function checkFinite(values, rows, width) {
  const bad = [];
  for (let row = 0; row < rows; row++) if (!values.subarray(row * width, (row + 1) * width).every(Number.isFinite)) bad.push(row);
  if (bad.length) throw new Refusal(`${number(bad.length)} of ${number(rows)} snippets hold NaN, infinity or values beyond float32, the first is snippet ${bad[0]}; make it again`);
}

// Writes float32 rows as an .npy file, for those who want the features that a tower made.
export function writeNpy(values, rows, width) {
  const text = `{'descr': '<f4', 'fortran_order': False, 'shape': (${rows}, ${width}), }`;
  const header = text.padEnd(Math.ceil((text.length + 11) / 64) * 64 - 11, " ") + "\n";
  const head = new Uint8Array(10 + header.length);
  head.set([...MAGIC, 1, 0, header.length & 255, header.length >> 8]);
  head.set(new TextEncoder().encode(header), 10);
  const body = new DataView(new ArrayBuffer(4 * rows * width));
  for (let i = 0; i < rows * width; i++) body.setFloat32(4 * i, values[i], true);
  return new Blob([head, body.buffer], { type: "application/octet-stream" });
}

// Median Euclidean length of rows: the scale of features, to which networks are sensitive.
export function medianRowLength({ rows, width, values }) {
  const lengths = new Float64Array(rows);
  for (let row = 0; row < rows; row++) {
    let sum = 0;
    for (let i = row * width; i < (row + 1) * width; i++) sum += values[i] * values[i];
    lengths[row] = Math.sqrt(sum);
  }
  lengths.sort();
  return (lengths[(rows - 1) >> 1] + lengths[rows >> 1]) / 2;
}

// Rows as a network reads them that resizes to `wanted`: linear between the nearest rows, centres at halves.
// `places` are the rows at hand among `length`; a right neighbour of share zero may be missing.
export function resized(values, width, places, length, wanted) {
  const made = new Float32Array(wanted * width), row = new Map(places.map((place, index) => [place, index]));
  for (let place = 0; place < wanted; place++) {
    const { left, right, share } = between(place, length, wanted);
    const from = row.get(left) * width, to = (row.get(right) ?? row.get(left)) * width;
    for (let i = 0; i < width; i++) made[place * width + i] = values[from + i] * (1 - share) + values[to + i] * share;
  }
  return made;
}

// Rows among `length` that `resized` reads, ascending.
export function readPlaces(length, wanted) {
  const found = new Set();
  for (let place = 0; place < wanted; place++) {
    const { left, right, share } = between(place, length, wanted);
    found.add(left);
    if (share > 0) found.add(right);
  }
  return [...found].sort((a, b) => a - b);
}

function between(place, length, wanted) {
  const at = Math.min(length - 1, Math.max(0, (place + 0.5) * (length / wanted) - 0.5)), left = Math.floor(at);
  return { left, right: Math.min(left + 1, length - 1), share: Math.fround(at - left) };
}
