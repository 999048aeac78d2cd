// The timeline of one video: a ruler with small frames, and a lane for each class with rows for truth and result files.
const HEAD = 24, ROW = 20, GAP = 8, MAX_LEVELS = 4, RULER = 26, FRAMES = 54;
const STEPS = [0.1, 0.2, 0.5, 1, 2, 5, 10, 15, 30, 60, 120, 300, 600, 900, 1800, 3600, 7200, 14400, 28800, 86400];

class Timeline {
  constructor(thumbnails, hooks) {
    Object.assign(this, { thumbnails, hooks, video: -1, length: 1, from: 0, to: 1, lanes: [], time: 0, chosen: null });
    this.box = at("timeline");
    this.ruler = at("ruler");
    this.scroller = at("lane-box");
    this.canvas = at("lanes");
    this.playhead = at("playhead");
    this.scroller.addEventListener("scroll", () => this.draw());
    new ResizeObserver(() => this.layOut()).observe(this.box);
    this.listen();
  }

  open(video) {
    this.video = video;
    this.length = lengthOf(video);
    this.chosen = null;
    this.scroller.scrollTop = 0;
    this.see(0, this.length);
    this.layOut();
  }

  stretch(length) {
    const whole = this.to - this.from >= this.length * 0.999;
    this.length = Math.max(length, this.length);
    if (whole) this.see(0, this.length);
  }

  // Sorts what is shown into lanes, rows and levels: the best detection of overlapping ones is in the first level.
  layOut() {
    if (this.video < 0) return;
    const shown = visibleSets(), lanes = new Map();
    const lane = (label) => {
      if (!lanes.has(label)) lanes.set(label, { label, truth: [], found: shown.map(() => []), best: 0 });
      return lanes.get(label);
    };
    for (const row of instancesOf(this.video)) lane(truth.label[row]).truth.push(row);
    shown.forEach((set, place) => {
      for (const row of detectionsOf(set, this.video)) {
        const one = lane(set.label[row]);
        one.found[place].push(row);
        one.best = Math.max(one.best, set.top ? set.score[row] / set.top : 0);
      }
    });
    this.lanes = [...lanes.values()].sort((a, b) => (b.truth.length > 0) - (a.truth.length > 0) || b.best - a.best || a.label - b.label);
    const narrow = this.box.clientWidth < 640;
    this.tagged = truth !== null || shown.length > 1;
    const tag = (set) => (!set ? (narrow ? "true" : "truth") : narrow ? set.letter : (shown.length > 1 ? `${set.letter} ` : "") + set.name);
    const context = this.canvas.getContext("2d");
    context.font = font(11.5);
    const widest = Math.max(...[...(truth ? [null] : []), ...shown].map((set) => context.measureText(tag(set)).width), 40);
    this.gutter = this.tagged ? (narrow ? 34 : Math.min(170, widest + 16)) : 6;
    let top = 4;
    for (const one of this.lanes) {
      one.top = top;
      top += HEAD;
      one.rows = [];
      if (truth) {
        one.rows.push({ set: null, tag: tag(null), top, levels: one.truth.length ? this.levels(truth, one.truth, () => 0, 2).levels : [[]] });
        top += ROW * one.rows[0].levels.length;
      }
      shown.forEach((set, place) => {
        const { levels, hidden } = this.levels(set, one.found[place], (row) => set.score[row], MAX_LEVELS);
        one.rows.push({ set, tag: tag(set), top, levels, hidden });
        top += ROW * levels.length;
      });
      one.hidden = one.rows.reduce((sum, row) => sum + (row.hidden || 0), 0);
      top += GAP;
    }
    this.height = Math.max(top, 64);
    at("lane-space").style.height = `${this.height}px`;
    this.draw();
  }

  levels(columns, rows, score, most) {
    const levels = [[]];
    let hidden = 0;
    for (const row of [...rows].sort((a, b) => score(b) - score(a) || columns.start[a] - columns.start[b])) {
      const free = (level) => level.every((other) => columns.end[row] <= columns.start[other] || columns.start[row] >= columns.end[other]);
      const level = levels.find(free);
      if (level) level.push(row);
      else if (levels.length < most) levels.push([row]);
      else hidden += 1;
    }
    for (const level of levels) level.sort((a, b) => columns.start[a] - columns.start[b]);
    return { levels, hidden };
  }

  // A scroll bar beside the lanes takes its room from the ruler too.
  get whole() { return this.scroller.clientWidth; }
  get width() { return this.whole - this.gutter - 8; }
  x(time) { return this.gutter + (time - this.from) / (this.to - this.from) * this.width; }
  timeAt(x) { return this.from + (x - this.gutter) / this.width * (this.to - this.from); }

  see(from, to) {
    const least = Math.min(this.length, inSeconds ? 0.5 : 2);
    const span = Math.max(least, Math.min(this.length, to - from));
    this.from = Math.max(0, Math.min(this.length - span, from));
    this.to = this.from + span;
    this.draw();
    this.hooks.seen();
  }

  zoom(factor, time = null) {
    const inside = time ?? (this.time >= this.from && this.time <= this.to ? this.time : (this.from + this.to) / 2);
    const span = (this.to - this.from) / factor, part = (inside - this.from) / (this.to - this.from);
    this.see(inside - part * span, inside + (1 - part) * span);
  }

  // Moves the window so that a time is in it, with room on both sides.
  reveal(start, end = start) {
    const span = this.to - this.from;
    if (start >= this.from && end <= this.to) return;
    if (end - start > span * 0.9) this.see(start - 0.1 * (end - start), end + 0.1 * (end - start));
    else this.see((start + end - span) / 2, (start + end + span) / 2);
  }

  revealLane(set, row) {
    const lane = this.lanes.find((one) => one.label === set.label[row]);
    if (!lane) return;
    const own = lane.rows.find((one) => one.set === set);
    const bottom = own.top + ROW * own.levels.length, room = this.scroller.clientHeight;
    if (lane.top < this.scroller.scrollTop) this.scroller.scrollTop = lane.top - 4;
    else if (bottom > this.scroller.scrollTop + room) this.scroller.scrollTop = bottom - room + 4;
  }

  moveTo(time) {
    this.time = time;
    const x = this.x(time);
    this.playhead.style.transform = `translateX(${x}px)`;
    this.playhead.hidden = x < this.gutter - 1 || x > this.gutter + this.width + 1;
    this.box.setAttribute("aria-valuenow", time.toFixed(2));
    this.box.setAttribute("aria-valuetext", `${spoken(time)} of ${spoken(this.length)}`);
  }

  draw(everything = false) {
    if (this.video < 0 || this.box.clientWidth < 40) return;
    const colours = look();
    this.drawRuler(colours);
    this.drawLanes(colours, everything);
    this.moveTo(this.time);
    const bar = at("span").firstElementChild;
    bar.style.left = `${this.from / this.length * 100}%`;
    bar.style.width = `${(this.to - this.from) / this.length * 100}%`;
    Object.assign(this.box.dataset, { from: this.from, to: this.to, gutter: this.gutter, lanes: this.lanes.length });
    this.box.setAttribute("aria-valuemax", this.length.toFixed(2));
  }

  ticks() {
    const most = Math.max(2, Math.floor(this.width / 74));
    const step = STEPS.filter((one) => inSeconds || one >= 1).find((one) => (this.to - this.from) / one <= most) || (this.to - this.from) / most;
    const ticks = [];
    for (let time = Math.ceil(this.from / step - 1e-9) * step; time <= this.to + 1e-9; time += step) ticks.push(time);
    return { ticks, fine: step < 1 };
  }

  drawRuler(colours) {
    const strip = this.thumbnails.aspect ? FRAMES + 4 : 0;
    const context = prepared(this.ruler, this.whole, RULER + strip);
    if (strip) {
      const wide = FRAMES * this.thumbnails.aspect, count = Math.max(1, Math.round(this.width / wide));
      for (let place = 0; place < count; place++) {
        const time = this.timeAt(this.gutter + (place + 0.5) / count * this.width);
        const frame = this.thumbnails.at(time / this.length);
        const left = this.gutter + place / count * this.width, room = this.width / count - 1;
        context.fillStyle = colours.raised;
        context.fillRect(left, 0, room, FRAMES);
        if (!frame) continue;
        const [picture, x, y, w, h] = frame, cut = Math.min(1, room / FRAMES * h / w);
        context.drawImage(picture, x + w * (1 - cut) / 2, y, w * cut, h, left, 0, room, FRAMES);
      }
    }
    const { ticks, fine } = this.ticks();
    context.font = font(12);
    context.textAlign = "center";
    const right = this.gutter + this.width;
    for (const tick of ticks) {
      const x = this.x(tick), text = clock(tick, fine), half = context.measureText(text).width / 2;
      context.fillStyle = colours.line;
      context.fillRect(Math.round(x), strip + RULER - 6, 1, 6);
      context.fillStyle = colours.soft;
      context.fillText(text, Math.max(this.gutter + half, Math.min(right - half, x)), strip + RULER / 2 - 2);
    }
    context.textAlign = "left";
    if (this.gutter > 50) context.fillText(inSeconds ? (this.length >= 3600 ? "h:mm:ss" : "m:ss") : "snippets", 4, strip + RULER / 2 - 2);
  }

  drawLanes(colours, everything) {
    const room = everything ? this.height : Math.min(this.height, this.scroller.clientHeight || this.height);
    const shift = everything ? 0 : this.scroller.scrollTop;
    const context = prepared(this.canvas, this.whole, room);
    context.translate(0, -shift);
    context.fillStyle = colours.grid;
    for (const tick of this.ticks().ticks) context.fillRect(Math.round(this.x(tick)), shift, 1, room);
    if (!this.lanes.length) {
      context.fillStyle = colours.soft;
      context.font = font(14);
      context.fillText("nothing to show at these scores and classes", this.gutter + 6, 32);
    }
    for (const lane of this.lanes) {
      const bottom = lane.rows.at(-1).top + ROW * lane.rows.at(-1).levels.length;
      if (bottom < shift || lane.top > shift + room) continue;
      this.drawLane(context, colours, lane, bottom);
    }
  }

  drawLane(context, colours, lane, bottom) {
    const right = this.gutter + this.width, colour = colours.of(lane.label);
    context.fillStyle = colours.line;
    context.fillRect(0, lane.top - GAP / 2, this.whole, 1);
    context.fillStyle = colours.paper;
    context.fillRect(0, lane.top - GAP / 2 + 1, this.whole, HEAD + 2);
    context.fillStyle = colour;
    context.fillRect(4, lane.top + 7, 10, 10);
    const parts = [];
    if (lane.truth.length) parts.push(`${lane.truth.length} true`);
    if (lane.hidden) parts.push(`${lane.hidden} weaker hidden`);
    context.font = font(12);
    context.fillStyle = colours.soft;
    context.textAlign = "right";
    context.fillText(parts.join(", "), right, lane.top + HEAD / 2);
    const taken = context.measureText(parts.join(", ")).width;
    context.textAlign = "left";
    context.font = font(13.5, 600);
    context.fillStyle = colours.ink;
    context.fillText(isolated(fitted(context, classes[lane.label], right - taken - 34)), 20, lane.top + HEAD / 2);
    for (const row of lane.rows) {
      if (this.tagged) {
        context.font = font(11.5);
        context.fillStyle = colours.soft;
        context.fillText(isolated(fitted(context, row.tag, this.gutter - 10)), 4, row.top + ROW / 2);
      }
      context.save();
      context.beginPath();
      context.rect(this.gutter, row.top, this.width, bottom - row.top);
      context.clip();
      row.levels.forEach((level, depth) => level.forEach((one, place) => {
        const top = row.top + depth * ROW, next = level[place + 1];
        if (row.set) this.drawDetection(context, colours, colour, row.set, one, next, top);
        else this.drawInstance(context, colours, one, next, top);
      }));
      context.restore();
    }
  }

  bar(start, end) {
    const left = this.x(start), wide = Math.max(3, this.x(end) - left);
    return [left, wide, Math.max(left, this.gutter), Math.min(left + wide, this.gutter + this.width)];
  }

  drawDetection(context, colours, colour, set, row, next, top) {
    const [left, wide, first, last] = this.bar(set.start[row], set.end[row]);
    if (last <= first) return;
    const right = !set.verdict || set.verdict[row] === TRUE || set.verdict[row] === UNJUDGED;
    context.beginPath();
    context.roundRect(left + 0.75, top + 1.75, Math.max(1.5, wide - 1.5), ROW - 3.5, Math.min(4, wide / 3));
    context.fillStyle = right ? colour : colours.paper;
    context.fill();
    if (!right) {
      context.strokeStyle = colour;
      context.lineWidth = 1.5;
      context.stroke();
    }
    if (this.chosen && this.chosen.set === set && this.chosen.row === row) {
      context.strokeStyle = colours.ink;
      context.lineWidth = 3;
      context.stroke();
    }
    const text = `${glyphOf(set, row)} ${scoreText(set.score[row])}`.trim();
    this.write(context, text, right ? colours.paper : colours.ink, colours.ink, first, last, next === undefined ? Infinity : this.x(set.start[next]), top);
  }

  drawInstance(context, colours, row, next, top) {
    const [left, wide, first, last] = this.bar(truth.start[row], truth.end[row]);
    if (last <= first) return;
    context.beginPath();
    context.roundRect(left + 0.75, top + 4.75, Math.max(1.5, wide - 1.5), ROW - 9.5, 2);
    const missing = visibleSets().filter((set) => set.finder && !finds(set, row));
    context.fillStyle = missing.length ? colours.paper : colours.ink;
    context.fill();
    context.strokeStyle = colours.ink;
    context.lineWidth = 1.5;
    context.stroke();
    if (!missing.length) return;
    const text = missing.length === visibleSets().length ? "missed" : `missed by ${missing.map((set) => set.letter).join(", ")}`;
    context.font = font(10.5, 600);
    this.write(context, text, colours.ink, colours.ink, first, last, next === undefined ? Infinity : this.x(truth.start[next]), top, 10.5);
  }

  // Writes a text in a bar, or beside it where there is room, or not at all.
  write(context, text, inside, beside, first, last, next, top, size = 12) {
    context.font = font(size, 600);
    const wide = context.measureText(text).width, middle = top + ROW / 2 + 0.5;
    context.textAlign = "center";
    if (wide + 8 <= last - first) {
      context.fillStyle = inside;
      context.fillText(text, (first + last) / 2, middle);
    } else if (last + wide + 6 <= Math.min(next, this.gutter + this.width)) {
      context.fillStyle = beside;
      context.textAlign = "left";
      context.fillText(text, last + 4, middle);
    }
    context.textAlign = "left";
  }

  // Detection or instance at a place of the lanes, in CSS pixels from their corner.
  hit(x, y) {
    const inside = y + this.scroller.scrollTop;
    if (x < this.gutter) return null;
    for (const lane of this.lanes) {
      for (const row of lane.rows) {
        const level = row.levels[Math.floor((inside - row.top) / ROW)];
        if (inside < row.top || !level) continue;
        const columns = row.set || truth;
        for (const one of level) {
          const [, , first, last] = this.bar(columns.start[one], columns.end[one]);
          if (x >= first - 1 && x <= last + 1 && last > first) return { set: row.set, row: one };
        }
      }
    }
    return null;
  }

  listen() {
    const pointers = new Map();
    let pressed = null;
    const place = (event, canvas) => {
      const box = canvas.getBoundingClientRect();
      return [event.clientX - box.left, event.clientY - box.top];
    };
    this.ruler.addEventListener("pointerdown", (event) => {
      if (event.button) return;
      this.ruler.setPointerCapture(event.pointerId);
      this.hooks.sought(this.timeAt(place(event, this.ruler)[0]));
    });
    this.ruler.addEventListener("pointermove", (event) => {
      if (this.ruler.hasPointerCapture(event.pointerId)) this.hooks.sought(this.timeAt(place(event, this.ruler)[0]));
    });
    this.canvas.addEventListener("pointerdown", (event) => {
      if (event.button) return;
      pointers.set(event.pointerId, event.clientX);
      const spread = [...pointers.values()];
      pressed = { x: event.clientX, y: event.clientY, from: this.from, to: this.to, moved: pointers.size > 1,
        spread: spread.length === 2 ? Math.abs(spread[0] - spread[1]) : 0 };
      if (event.pointerType === "mouse") this.canvas.setPointerCapture(event.pointerId);
    });
    this.canvas.addEventListener("pointermove", (event) => {
      const [x, y] = place(event, this.canvas);
      if (!pressed || !pointers.has(event.pointerId)) {
        this.hooks.hovered(event.pointerType === "mouse" ? this.hit(x, y) : null, event);
        return;
      }
      pointers.set(event.pointerId, event.clientX);
      const span = pressed.to - pressed.from;
      if (pointers.size === 2 && pressed.spread > 10) {
        const [a, b] = [...pointers.values()], factor = Math.max(10, Math.abs(a - b)) / pressed.spread;
        const middle = (a + b) / 2 - this.canvas.getBoundingClientRect().left;
        const time = pressed.from + (middle - this.gutter) / this.width * span, part = (time - pressed.from) / span;
        this.see(time - part * span / factor, time + (1 - part) * span / factor);
        return;
      }
      const moved = event.clientX - pressed.x;
      if (Math.abs(moved) > 4 || Math.abs(event.clientY - pressed.y) > 4) pressed.moved = true;
      if (pressed.moved && span < this.length * 0.999) this.see(pressed.from - moved / this.width * span, pressed.to - moved / this.width * span);
    });
    const release = (event) => {
      const wasClick = pressed && !pressed.moved && event.type === "pointerup";
      pointers.delete(event.pointerId);
      if (!pointers.size) pressed = null;
      if (!wasClick) return;
      const [x, y] = place(event, this.canvas), found = this.hit(x, y);
      if (found) this.hooks.chosen(found);
      else this.hooks.sought(this.timeAt(x));
    };
    for (const name of ["pointerup", "pointercancel"]) this.canvas.addEventListener(name, release);
    this.canvas.addEventListener("pointerleave", () => this.hooks.hovered(null));
    this.box.addEventListener("wheel", (event) => {
      const sideways = event.shiftKey ? event.deltaY || event.deltaX : event.deltaX;
      if (event.ctrlKey || event.metaKey) {
        event.preventDefault();
        this.zoom(Math.exp(-event.deltaY * 0.004), this.timeAt(place(event, this.box)[0]));
      } else if (event.shiftKey || Math.abs(event.deltaX) > Math.abs(event.deltaY)) {
        event.preventDefault();
        const moved = sideways / this.width * (this.to - this.from);
        this.see(this.from + moved, this.to + moved);
      }
    }, { passive: false });
  }
}
