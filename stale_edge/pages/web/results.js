// Detections as a result file, and as the content of the player.
const VERSION = "VERSION 1.3";
const SHOWN_AT_FIRST = 10;

const inSeconds = (videos) => videos.every((video) => video.duration !== null);

// Detections in seconds or snippets, as `Detector` gives them. A video is { id, rows, ran, duration, found }: rows of its
// features, rows that the network saw, seconds or null, and [{ start, end, label, score }] in rows that the network saw.
function timed({ rows, ran, duration, found }, own, seconds) {
  const length = seconds ? duration : rows;
  const step = seconds && own && Math.abs(length - ran * own.seconds) <= own.slack ? own.seconds : length / ran;
  const inside = (place) => Math.min(length, Math.max(0, place * step));
  return found.map((one) => ({ ...one, start: inside(one.start), end: inside(one.end) })).filter((one) => one.start < one.end);
}

export function resultFile(videos, model) {
  const seconds = inSeconds(videos), rows = {};
  for (const video of videos) {
    rows[video.id] = timed(video, model.own_step, seconds).map(({ start, end, label, score }) => ({ label, score, segment: [start, end] }));
  }
  const { name: file, precision, untrained } = model;
  return { version: VERSION, external_data: { model: { file, precision, untrained }, time_unit: seconds ? "seconds" : "snippets" }, results: rows };
}

// Columns in base64, as the player of `stale-edge view` reads them.
export function playerContent(videos, site) {
  const seconds = inSeconds(videos), found = videos.map((video) => timed(video, site.model.own_step, seconds)), every = found.flat();
  const classes = [...new Set(every.map((one) => one.label))].sort(), place = new Map(classes.map((label, index) => [label, index]));
  const offsets = [0];
  for (const rows of found) offsets.push(offsets.at(-1) + rows.length);
  const suggested = site.model.suggested_min_score, scores = every.map((one) => one.score).sort((a, b) => b - a), wanted = SHOWN_AT_FIRST * videos.length;
  const { name, precision, untrained } = site.model;
  const set = {
    name, note: untrained ? `${precision}, untrained: what it finds means nothing` : precision,
    offsets: column(Uint32Array, offsets), start: column(Float32Array, every.map((one) => one.start)),
    end: column(Float32Array, every.map((one) => one.end)), label: column(Uint32Array, every.map((one) => place.get(one.label))),
    score: column(Float32Array, every.map((one) => one.score)), minimum: suggested && scores[0] >= suggested ? suggested : scores.length <= wanted ? 0 : scores[wanted - 1],
  };
  const media = Object.fromEntries(videos.flatMap((video, index) => (video.media
    ? [[index, { name: video.media.name, address: video.media.address, embedded: false }]] : [])));
  return {
    seconds, tiou: 0, verdicts: [], classes, colours: classes.map((label) => site.model.colours[site.model.classes.indexOf(label)]),
    looks: site.looks, ids: videos.map((video) => video.id), truth: null, sets: [set], media,
    lengths: column(Float32Array, videos.map((video) => (seconds ? video.duration : video.rows))),
  };
}

function column(Kind, values) {
  const bytes = new Uint8Array(new Kind(values).buffer);
  let text = "";
  for (let at = 0; at < bytes.length; at += 8192) text += String.fromCharCode(...bytes.subarray(at, at + 8192));
  return btoa(text);
}
