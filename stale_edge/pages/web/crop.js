// The square in the middle of a frame at a tower's size, as CLIP's preprocessing cuts it: bicubic, with antialiasing.
const REACH = 2;
const CUBIC = -0.5;

// Left, upper, right and lower edge of the part of a frame that is seen; margins are rounded half to even.
export function cropBox(width, height, size) {
  const short = Math.min(width, height), long = Math.max(width, height), whole = Math.floor(size * long / short);
  const half = (whole - size) / 2, first = half % 1 === 0.5 ? 2 * Math.round(half / 2) : Math.round(half);
  const start = first * long / whole, end = (first + size) * long / whole;
  return width >= height ? [start, 0, end, height] : [0, start, width, end];
}

// RGB bytes [size, size, 3] of RGBA pixels; `swap` gives BGR.
export function crop({ data, width, height }, size, swap = false) {
  const [left, top, right, bottom] = cropBox(width, height, size);
  const across = filters(width, left, right, size), down = filters(height, top, bottom, size);
  const first = down[0].start, last = down[size - 1].start + down[size - 1].weights.length;
  const narrow = new Uint8ClampedArray((last - first) * size * 3), made = new Uint8ClampedArray(size * size * 3);
  for (let y = first; y < last; y++) {
    for (let x = 0; x < size; x++) {
      const { start, weights } = across[x];
      let r = 0, g = 0, b = 0;
      for (let i = 0, at = 4 * (y * width + start); i < weights.length; i++, at += 4) {
        r += weights[i] * data[at];
        g += weights[i] * data[at + 1];
        b += weights[i] * data[at + 2];
      }
      narrow.set([r, g, b], 3 * ((y - first) * size + x));
    }
  }
  for (let y = 0; y < size; y++) {
    const { start, weights } = down[y];
    for (let x = 0; x < 3 * size; x++) {
      let sum = 0;
      for (let i = 0; i < weights.length; i++) sum += weights[i] * narrow[3 * size * (start - first + i) + x];
      made[3 * size * y + x] = sum;
    }
  }
  if (swap) for (let i = 0; i < made.length; i += 3) [made[i], made[i + 2]] = [made[i + 2], made[i]];
  return new Uint8Array(made.buffer);
}

// First pixel and weights for each pixel of the result.
function filters(length, begin, end, size) {
  const scale = (end - begin) / size, stretch = Math.max(1, scale), support = REACH * stretch;
  return Array.from({ length: size }, (_, place) => {
    const centre = begin + (place + 0.5) * scale;
    const start = Math.max(0, Math.floor(centre - support + 0.5)), stop = Math.min(length, Math.floor(centre + support + 0.5));
    const weights = Array.from({ length: stop - start }, (_, i) => cubic((start + i - centre + 0.5) / stretch));
    const sum = weights.reduce((total, one) => total + one, 0);
    return { start, weights: weights.map((one) => one / sum) };
  });
}

function cubic(x) {
  const at = Math.abs(x);
  if (at < 1) return ((CUBIC + 2) * at - (CUBIC + 3)) * at * at + 1;
  return at < 2 ? (((at - 5) * at + 8) * at - 4) * CUBIC : 0;
}
