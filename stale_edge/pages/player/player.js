// The page: which video is open, what plays, what is chosen, and the address that brings it all back.
const player = at("video");
const state = { video: -1, time: 0, playable: false, loop: true, chosen: null, order: [], matches: [], found: [], tallies: [] };
const thumbnails = new Thumbnails(() => timeline.draw());
const timeline = new Timeline(thumbnails, { sought: (time) => seek(time), chosen: (one) => choose(one, true),
  hovered: (one, event) => hover(one, event), seen: () => remember() });
const videoList = new LongList(at("videos"), 66, fillVideo, (index) => open(state.matches[index]));
const foundList = new LongList(at("detections"), 52, fillDetection, (index) => choose(state.found[index], true));

// ---- the list of videos
const ORDERS = [
  ...(truth ? [
    ["worst", "worst first", (t, v) => -(t.missed[v] + t.doubled[v] + t.wrong[v])],
    ["missed", "most missed", (t, v) => -t.missed[v]],
    ["doubled", "most doubled", (t, v) => -t.doubled[v]],
    ["wrong", "most of a wrong class", (t, v) => -t.wrong[v]],
    ["spurious", "most misplaced", (t, v) => -t.spurious[v]],
  ] : []),
  ...(truth && sets.length > 1 ? [["apart", "files differ most", (_t, v) => -Math.abs(state.tallies[0].found[v] - state.tallies[1].found[v])]] : []),
  ["best", "highest score", (t, v) => -t.best[v]],
  ["many", "most detections", (t, v) => -t.shown[v]],
  ["long", "longest", (_t, v) => -lengthOf(v)],
  ["name", "name", () => 0],
];
const names = new Intl.Collator("en", { numeric: true });
const alphabet = ids.map((_, video) => video).sort((a, b) => names.compare(ids[a], ids[b]));

function recount() {
  state.tallies = sets.map(tally);
}

const lead = () => Math.max(0, sets.findIndex((set) => set.visible));

function listVideos() {
  const words = at("search").value.toLowerCase().trim();
  const hits = new Set(classes.flatMap((name, label) => (words && name.toLowerCase().includes(words) ? [label] : [])));
  const holds = (columns, video, shown) => {
    for (let row = columns.offsets[video]; row < columns.offsets[video + 1]; row++) if (shown(columns.label[row], row)) return true;
    return false;
  };
  const has = (video, of) => (truth && holds(truth, video, of)) || sets.some((set) => holds(set, video, (label, row) => set.score[row] >= set.minimum && of(label)));
  const matches = alphabet.filter((video) => {
    if (words && !ids[video].toLowerCase().includes(words) && !has(video, (label) => hits.has(label))) return false;
    return only.size === 0 || has(video, (label) => only.has(label));
  });
  const value = ORDERS.find(([key]) => key === at("sort").value)[2], counts = state.tallies[lead()];
  const rank = new Float64Array(ids.length);
  for (const video of matches) rank[video] = value(counts, video);
  state.matches = matches.sort((a, b) => rank[a] - rank[b]);
  at("matches").textContent = matches.length === ids.length ? counted(ids.length, "video") : `${number(matches.length)} of ${counted(ids.length, "video")}`;
  videoList.show(state.matches.length, state.matches.indexOf(state.video));
}

function summaryOf(video, counts) {
  const parts = [];
  if (truth) {
    const total = counts.found[video] + counts.missed[video];
    parts.push(`${counts.found[video]} of ${total} found`);
    if (counts.doubled[video]) parts.push(`${counts.doubled[video]} doubled`);
    if (counts.wrong[video]) parts.push(`${counts.wrong[video]} wrong class`);
    if (counts.spurious[video]) parts.push(`${counts.spurious[video]} misplaced`);
  } else parts.push(counted(counts.shown[video], "detection"));
  return parts.join(" · ");
}

function fillVideo(row, index) {
  const video = state.matches[index], set = sets[lead()], counts = state.tallies[lead()];
  const name = element("bdi", "id", ids[video]);
  name.title = ids[video];
  const line = element("span", "line");
  line.append(name, element("span", "time", inSeconds ? clock(lengthOf(video)) : ""));
  const small = element("canvas", "mini");
  row.append(line, small, element("span", "facts", summaryOf(video, counts)));
  if (truth && counts.missed[video] + counts.doubled[video] + counts.wrong[video] > 0) row.classList.add("faulty");
  const wide = Math.max(40, row.clientWidth - 24), colours = look(), length = lengthOf(video);
  const context = prepared(small, wide, 9);
  context.fillStyle = colours.grid;
  context.fillRect(0, 0, wide, 9);
  const strip = (columns, rows, top, height, colour) => {
    for (const one of rows) {
      context.fillStyle = colour(one);
      context.fillRect(columns.start[one] / length * wide, top, Math.max(1.5, (columns.end[one] - columns.start[one]) / length * wide), height);
    }
  };
  strip(set, detectionsOf(set, video).reverse(), truth ? 4 : 0, truth ? 5 : 9, (one) => colours.of(set.label[one]));
  if (truth) strip(truth, instancesOf(video), 0, 3, () => colours.ink);
}

// ---- the open video
function open(video, time = 0, view = null) {
  if (video === undefined || video < 0) return;
  state.video = video;
  state.chosen = null;
  state.time = 0;
  at("name").textContent = ids[video];
  at("name").title = ids[video];
  document.title = `${ids[video]} – ${at("counts").previousElementSibling.textContent}`;
  loadMedia(packed.media[video], video);
  timeline.open(video);
  listDetections();
  videoList.select(state.matches.indexOf(video));
  seek(time, false);
  if (view) timeline.see(view[0], view[1]);
  showSets();
  remember();
}

function trouble(text) {
  at("trouble").hidden = !text;
  at("trouble").textContent = text;
}

let blob = null;
function loadMedia(media, video) {
  trouble("");
  thumbnails.clear();
  player.pause();
  if (blob) URL.revokeObjectURL(blob);
  blob = null;
  state.playable = Boolean(media) && inSeconds;
  document.documentElement.classList.toggle("without-video", !state.playable);
  if (media && media.sprite) thumbnails.useSprite(media.sprite);
  if (!state.playable) {
    player.removeAttribute("src");
    player.load();
    return;
  }
  let address = media.address;
  if (media.embedded) {
    const text = at(`embedded-${video}`);
    blob = URL.createObjectURL(new Blob([bytesOf(text.textContent)], { type: text.dataset.kind }));
    address = blob;
  }
  player.setAttribute("aria-label", `Video ${ids[video]}`);
  player.src = address;
  if (!media.sprite) thumbnails.read(address, 24);
}

player.addEventListener("error", () => {
  if (!state.playable) return;
  state.playable = false;
  document.documentElement.classList.add("without-video");
  const name = packed.media[state.video].name, missing = player.error && player.error.code === 4 && player.networkState === 3;
  trouble(`${isolated(name)} cannot be played here: ${missing ? "it is not beside this page any more, or this browser does not know its format" : "it is damaged"}. The timeline works without it.`);
});
player.addEventListener("loadedmetadata", () => {
  if (Number.isFinite(player.duration)) timeline.stretch(player.duration);
  if (state.time > 0) player.currentTime = state.time;
  showTime();
});
player.addEventListener("play", () => { showPlaying(); requestAnimationFrame(follow); });
player.addEventListener("pause", () => { showPlaying(); remember(); });
player.addEventListener("seeked", () => { if (player.paused) follow(); });

function showPlaying() {
  at("play").textContent = player.paused ? "Play" : "Pause";
}

// While the video plays, the playhead moves with it; a chosen detection is repeated.
function follow() {
  if (!state.playable) return;
  let now = player.currentTime;
  if (state.chosen && state.loop && !player.paused) {
    const { set, row } = state.chosen, columns = set || truth, end = Math.min(columns.end[row], player.duration || Infinity);
    if (now >= end - 0.02 || now < columns.start[row] - 0.3) {
      now = Math.max(0, columns.start[row]);
      if (end - now > 0.05) player.currentTime = now;
    }
  }
  state.time = now;
  if (!player.paused && (now > timeline.to || now < timeline.from)) timeline.reveal(now);
  showTime();
  if (!player.paused && !player.ended) requestAnimationFrame(follow);
}
player.addEventListener("ended", () => { if (state.chosen && state.loop) { seek((state.chosen.set || truth).start[state.chosen.row], false); player.play(); } });

function showTime() {
  at("clock").textContent = inSeconds ? `${clock(state.time, true)} / ${clock(timeline.length)}` : `${Math.round(state.time)} / ${Math.round(timeline.length)} snippets`;
  timeline.moveTo(state.time);
}

function seek(time, letGo = true) {
  state.time = Math.max(0, Math.min(timeline.length, time));
  if (letGo && state.chosen) {
    const { set, row } = state.chosen, columns = set || truth;
    if (state.time < columns.start[row] || state.time > columns.end[row]) release();
  }
  if (state.playable && player.readyState > 0) player.currentTime = state.time;
  timeline.reveal(state.time);
  showTime();
  remember();
}

function toggle() {
  if (!state.playable) return;
  if (player.paused) player.play().catch((error) => trouble(`The video does not play (${error.message}).`));
  else player.pause();
}

// ---- detections
function describe({ set, row }) {
  const columns = set || truth, times = `${spoken(columns.start[row])} to ${spoken(columns.end[row])}`;
  if (!set) return { label: classes[truth.label[row]], times, facts: ["ground truth", ...visibleSets().filter((one) => one.finder).map((one) => `${finds(one, row) ? "found" : "missed"} by ${one.name}`)] };
  return { label: classes[set.label[row]], times, facts: [`score ${set.score[row].toFixed(3)}`, wordsOf(set, row), sets.length > 1 ? `${set.letter}: ${set.name}` : ""].filter(Boolean) };
}

function listDetections() {
  const byScore = at("found-order").value === "score";
  const found = visibleSets().flatMap((set) => detectionsOf(set, state.video).map((row) => ({ set, row })));
  found.sort((a, b) => byScore ? b.set.score[b.row] - a.set.score[a.row] : a.set.start[a.row] - b.set.start[b.row] || a.set.end[a.row] - b.set.end[b.row]);
  state.found = found;
  const kept = state.chosen && state.chosen.set ? found.findIndex((one) => one.set === state.chosen.set && one.row === state.chosen.row) : -1;
  if (kept < 0 && state.chosen && state.chosen.set) release();
  foundList.show(found.length, kept);
  at("nothing").hidden = found.length > 0;
  const all = visibleSets().reduce((sum, set) => sum + set.offsets[state.video + 1] - set.offsets[state.video], 0);
  at("nothing").textContent = all ? `${counted(all, "detection")} left out by score or class` : "no detection";
  at("found-title").textContent = `${counted(found.length, "detection")}`;
  at("summary").textContent = visibleSets().map((set) => (sets.length > 1 ? `${set.letter} ` : "") + summaryOf(state.video, state.tallies[sets.indexOf(set)])).join("   ");
}

function fillDetection(row, index) {
  const { set, row: place } = state.found[index];
  const mark = element("span", "mark");
  mark.style.background = look().of(set.label[place]);
  const label = element("bdi", "label", classes[set.label[place]]);
  label.title = classes[set.label[place]];
  const words = wordsOf(set, place);
  const line = element("span", "line");
  line.append(mark, label, element("span", "score", scoreText(set.score[place])));
  const facts = element("span", "facts");
  facts.append(`${clock(set.start[place], true)} – ${clock(set.end[place], true)}`);
  if (words) facts.append(` · ${glyphOf(set, place)} ${words}`);
  if (sets.length > 1) facts.append(` · ${set.letter}`);
  row.append(line, facts);
}

function choose(one, play) {
  if (!one) return;
  state.chosen = one;
  timeline.chosen = one;
  const columns = one.set || truth, start = columns.start[one.row];
  seek(start, false);
  timeline.reveal(start, Math.min(columns.end[one.row], timeline.length));
  if (one.set) timeline.revealLane(one.set, one.row);
  timeline.draw();
  foundList.select(one.set ? state.found.findIndex((other) => other.set === one.set && other.row === one.row) : -1);
  const { label, times, facts } = describe(one);
  at("said").textContent = [label, times, ...facts].join(", ");
  if (play && state.playable && player.paused) toggle();
}

function release() {
  state.chosen = null;
  timeline.chosen = null;
  timeline.draw();
  foundList.select(-1);
}

function step(by) {
  const order = [...state.found].sort((a, b) => a.set.start[a.row] - b.set.start[b.row] || a.set.end[a.row] - b.set.end[b.row]);
  if (!order.length) return;
  const now = state.chosen && state.chosen.set ? order.findIndex((one) => one.set === state.chosen.set && one.row === state.chosen.row) : -1;
  let wanted = now + by;
  if (now < 0) {
    const after = order.findIndex((one) => one.set.start[one.row] > state.time - 1e-6);
    wanted = by > 0 ? (after < 0 ? 0 : after) : (after < 0 ? order.length - 1 : after - 1);
  }
  choose(order[(wanted + order.length) % order.length], false);
}

function hover(one, event) {
  const tip = at("tip");
  tip.hidden = !one;
  timeline.canvas.style.cursor = one ? "pointer" : "default";
  if (!one) return;
  const { label, times, facts } = describe(one);
  tip.replaceChildren(element("b", "", isolated(label)), element("span", "", times), ...facts.map((text) => element("span", "", text)));
  const room = tip.getBoundingClientRect();
  tip.style.left = `${Math.max(4, Math.min(innerWidth - room.width - 4, event.clientX + 12))}px`;
  tip.style.top = `${event.clientY + 18 + room.height > innerHeight ? event.clientY - room.height - 10 : event.clientY + 18}px`;
}

// ---- result files and classes
function buildSets() {
  for (const set of sets) {
    const row = element("div", "set"), box = element("input"), name = element("label", "name"), slider = element("input");
    Object.assign(box, { type: "checkbox", checked: true, id: `show-${set.letter}` });
    name.htmlFor = box.id;
    if (sets.length > 1) name.append(element("b", "", set.letter), " ");
    name.append(element("bdi", "", set.name));
    name.title = set.note || set.name;
    Object.assign(slider, { type: "range", min: 0, max: set.top || 1, step: "any", value: set.minimum, id: `minimum-${set.letter}` });
    slider.setAttribute("aria-label", `Least score of ${set.name}`);
    const value = element("span", "value"), reset = element("button", "plain", truth ? "best F1" : "fewer");
    reset.type = "button";
    reset.title = truth ? "The score of the highest F1 on these videos" : "About ten detections of a video";
    const every = element("button", "plain", "all");
    every.type = "button";
    every.title = "Show detections of every score";
    if (sets.length < 2) box.hidden = true;
    row.append(box, name, slider, value, reset, every);
    if (set.note) row.append(element("bdi", "note", set.note));
    at("sets").append(row);
    Object.assign(set, { box, slider, value });
    box.addEventListener("change", () => { set.visible = box.checked; changed(); });
    slider.addEventListener("input", () => { set.minimum = Number(slider.value); soon(); });
    reset.addEventListener("click", () => { setMinimum(set, set.start_minimum); changed(); });
    every.addEventListener("click", () => { setMinimum(set, 0); changed(); });
  }
}

function setMinimum(set, minimum) {
  set.minimum = minimum;
  set.slider.value = minimum;
}

let waiting = 0;
function soon() {
  cancelAnimationFrame(waiting);
  waiting = requestAnimationFrame(changed);
}

function changed() {
  recount();
  timeline.layOut();
  listDetections();
  listVideos();
  showSets();
  remember();
}

function showSets() {
  for (const set of sets) {
    const total = set.offsets[state.video + 1] - set.offsets[state.video], shown = state.tallies[sets.indexOf(set)].shown[state.video];
    set.value.textContent = `score ≥ ${scoreText(set.minimum)}: ${shown} of ${total}`;
    set.slider.setAttribute("aria-valuetext", `${scoreText(set.minimum)}, ${shown} of ${total} detections`);
  }
  at("open-classes").textContent = only.size === 0 ? "All classes" : only.size === 1 ? `Only ${isolated(classes[[...only][0]])}` : `${only.size} classes`;
  at("classes-all").disabled = only.size === 0;
}

// Classes of the open video come first; of many more a search finds the rest.
function listClasses() {
  const words = at("class-search").value.toLowerCase().trim(), here = new Set();
  for (const columns of [...(truth ? [truth] : []), ...sets]) for (const row of rowsOf(columns, state.video)) here.add(columns.label[row]);
  const order = classes.map((_, label) => label).filter((label) => !words || classes[label].toLowerCase().includes(words));
  order.sort((a, b) => only.has(b) - only.has(a) || here.has(b) - here.has(a) || a - b);
  const most = 120, colours = look();
  at("class-list").replaceChildren(...order.slice(0, most).map((label) => {
    const line = element("label", here.has(label) ? "here" : ""), box = element("input"), mark = element("span", "mark");
    Object.assign(box, { type: "checkbox", checked: only.has(label) });
    mark.style.background = colours.of(label);
    box.addEventListener("change", () => { only[box.checked ? "add" : "delete"](label); changed(); });
    line.append(box, mark, element("bdi", "", classes[label]));
    return line;
  }), ...(order.length > most ? [element("p", "", `${number(order.length - most)} more: search for them`)] : []));
}

// ---- the address keeps the view
let restoring = false, saved = 0;
function remember() {
  if (restoring || state.video < 0) return;
  clearTimeout(saved);
  saved = setTimeout(write, 120);
}

function write() {
  const words = new URLSearchParams({ video: ids[state.video], t: state.time.toFixed(1) });
  if (timeline.to - timeline.from < timeline.length * 0.999) words.set("view", `${timeline.from.toFixed(2)},${timeline.to.toFixed(2)}`);
  if (sets.some((set) => set.minimum !== set.start_minimum)) words.set("min", sets.map((set) => Number(set.minimum.toPrecision(6))).join(","));
  if (sets.some((set) => !set.visible)) words.set("files", visibleSets().map((set) => set.letter).join(""));
  for (const label of only) words.append("class", classes[label]);
  const wanted = "#" + words;
  if (wanted === location.hash) return;
  try {
    history.replaceState(null, "", wanted);
  } catch {
    // Some browsers refuse this to pages from disk, or when asked too often; the view is the same without.
  }
}

function restore() {
  restoring = true;
  const words = new URLSearchParams(location.hash.slice(1));
  const minima = (words.get("min") || "").split(",").map(Number);
  sets.forEach((set, place) => {
    setMinimum(set, words.has("min") && Number.isFinite(minima[place]) ? minima[place] : set.start_minimum);
    set.visible = !words.get("files") || words.get("files").includes(set.letter);
    set.box.checked = set.visible;
  });
  only.clear();
  for (const name of words.getAll("class")) if (classes.includes(name)) only.add(classes.indexOf(name));
  recount();
  listVideos();
  const wanted = ids.indexOf(words.get("video")), view = (words.get("view") || "").split(",").map(Number);
  open(wanted >= 0 ? wanted : state.matches[0] ?? 0, Number(words.get("t")) || 0, view.length === 2 && view.every(Number.isFinite) && view[1] > view[0] ? view : null);
  videoList.select(state.matches.indexOf(state.video));
  restoring = false;
}
window.addEventListener("hashchange", restore);

// ---- keys and buttons
const frame = () => (inSeconds ? 0.04 : 1);
const KEYS = {
  " ": () => toggle(), ArrowLeft: (event) => seek(state.time - (event.shiftKey ? 10 : 1)), ArrowRight: (event) => seek(state.time + (event.shiftKey ? 10 : 1)),
  ",": () => seek(state.time - frame()), ".": () => seek(state.time + frame()), Home: () => seek(0), End: () => seek(timeline.length),
  n: () => step(1), p: () => step(-1), l: () => at("loop").click(), "[": () => at("previous").click(), "]": () => at("next").click(),
  "+": () => timeline.zoom(1.6), "=": () => timeline.zoom(1.6), "-": () => timeline.zoom(1 / 1.6), 0: () => timeline.see(0, timeline.length),
  "/": () => { openLibrary(true); at("search").focus(); }, "?": () => at("help").showModal(), Escape: () => { hover(null); release(); },
};
document.addEventListener("keydown", (event) => {
  const action = KEYS[event.key], target = event.target;
  if (!action || event.ctrlKey || event.metaKey || event.altKey || at("help").open) return;
  if (target.matches("input[type=search], select, textarea")) {
    if (event.key === "Escape") target.blur();
    return;
  }
  if (target.matches("input[type=range]") && /^(Arrow|Home|End)/.test(event.key)) return;
  if (event.key === " " && target.matches("button, summary, input")) return;
  event.preventDefault();
  event.stopPropagation();
  action(event);
}, true);

function openLibrary(wanted) {
  document.documentElement.classList.toggle("library-open", wanted);
  at("open-library").setAttribute("aria-expanded", String(wanted));
}
const walk = (by) => {
  if (!state.matches.length) return;
  const now = state.matches.indexOf(state.video);
  open(state.matches[(now + by + state.matches.length) % state.matches.length]);
};
const clicks = {
  play: toggle, previous: () => walk(-1), next: () => walk(1), "zoom-in": () => timeline.zoom(1.6), "zoom-out": () => timeline.zoom(1 / 1.6),
  fit: () => timeline.see(0, timeline.length), "open-help": () => at("help").showModal(),
  "open-library": () => openLibrary(!document.documentElement.classList.contains("library-open")),
  loop: () => { state.loop = !state.loop; at("loop").setAttribute("aria-pressed", String(state.loop)); },
  "open-classes": () => { const hidden = !at("classes").hidden; at("classes").hidden = hidden; at("open-classes").setAttribute("aria-expanded", String(!hidden)); if (!hidden) listClasses(); },
  "classes-all": () => { only.clear(); changed(); listClasses(); },
  copy: async () => {
    write();
    try {
      await navigator.clipboard.writeText(location.href);
      at("said").textContent = at("copy").textContent = "Copied";
    } catch {
      at("said").textContent = at("copy").textContent = "Copy the address above";
    }
    setTimeout(() => { at("copy").textContent = "Copy link"; }, 2500);
  },
};
for (const [id, action] of Object.entries(clicks)) at(id).addEventListener("click", action);
at("videos").addEventListener("click", () => openLibrary(false));
at("search").addEventListener("input", listVideos);
at("class-search").addEventListener("input", listClasses);
at("sort").addEventListener("change", () => { listVideos(); at("videos").scrollTop = 0; videoList.draw(); });
at("found-order").addEventListener("change", listDetections);
at("speed").addEventListener("change", () => { player.playbackRate = Number(at("speed").value); });
document.addEventListener("look", () => { timeline.draw(); videoList.refresh(); foundList.refresh(); if (!at("classes").hidden) listClasses(); });
let width = innerWidth;
addEventListener("resize", () => { if (innerWidth !== width) { width = innerWidth; videoList.refresh(); } });

// Paper has no scrolling: all lanes and detections are laid out.
const root = document.documentElement;
let onScreen = null;
addEventListener("beforeprint", () => {
  onScreen = [root.dataset.theme, root.dataset.look];
  root.dataset.theme = root.dataset.look = "light";
  timeline.draw(true);
  foundList.draw(true);
});
addEventListener("afterprint", () => {
  if (!onScreen) return;
  if (onScreen[0] === undefined) delete root.dataset.theme;
  else root.dataset.theme = onScreen[0];
  root.dataset.look = onScreen[1];
  timeline.layOut();
  foundList.refresh();
});

for (const [key, words] of ORDERS) {
  const option = element("option", "", words);
  option.value = key;
  at("sort").append(option);
}
if (!truth) at("sort").value = "name";
buildSets();
const total = sets.reduce((sum, set) => sum + set.score.length, 0);
at("counts").textContent = [counted(ids.length, "video"), counted(total, "detection"), ...(truth ? [counted(truth.start.length, "true instance")] : []), counted(classes.length, "class", "classes")].join(" · ");
at("legend").replaceChildren(...(truth ? [
  `Judged at tIoU ${packed.tiou}: filled bars are right; of outlined ones `,
  ...packed.verdicts.map((name, place) => (place === TRUE ? null : element("span", "key", `${GLYPHS[place]} ${name}`))).filter(Boolean),
  element("span", "key", "an outlined truth is missed"),
] : ["Numbers are scores."]));
if (ids.length) restore();
else at("name").textContent = "no video";
