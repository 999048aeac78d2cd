// Detections as a result file, and as the content of the player.
const VERSION = "VERSION 1.3";
const SHOWN_AT_FIRST = 10;

// A video's detections: { id, rows, ran, duration, found: [{ start, end, label, score }] }, start and end in rows that
// were run; `duration` in seconds, or null where nothing tells it.
const scaleOf = (video, inSeconds) => (inSeconds ? video.duration : video.rows) / video.ran;
const inSeconds = (videos) => videos.every((video) => video.duration !== null);

export function resultFile(videos, model) {
  const seconds = inSeconds(videos), rows = {};
  for (const video of videos) {
    const scale = scaleOf(video, seconds);
    rows[video.id] = video.found.map(({ start, end, label, score }) => ({ label, score, segment: [start * scale, end * scale] }));
  }
  const { name: file, precision, untrained } = model;
  return { version: VERSION, external_data: { model: { file, precision, untrained }, time_unit: seconds ? "seconds" : "snippets" }, results: rows };
}

// Columns in base64, as the player of `stale-edge view` reads them.
export function playerContent(videos, site) {
  const seconds = inSeconds(videos), every = videos.flatMap((video) => {
    const scale = scaleOf(video, seconds);
    return video.found.map((one) => ({ ...one, start: one.start * scale, end: one.end * scale }));
  });
  const classes = [...new Set(every.map((one) => one.label))].sort(), place = new Map(classes.map((label, index) => [label, index]));
  const offsets = [0];
  for (const video of videos) offsets.push(offsets.at(-1) + video.found.length);
  const scores = every.map((one) => one.score).sort((a, b) => b - a), wanted = SHOWN_AT_FIRST * videos.length;
  const { name, precision, untrained } = site.model;
  const set = {
    name, note: untrained ? `${precision}, untrained: what it finds means nothing` : precision,
    offsets: column(Uint32Array, offsets), start: column(Float32Array, every.map((one) => one.start)),
    end: column(Float32Array, every.map((one) => one.end)), label: column(Uint32Array, every.map((one) => place.get(one.label))),
    score: column(Float32Array, every.map((one) => one.score)), minimum: scores.length <= wanted ? 0 : scores[wanted - 1],
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
