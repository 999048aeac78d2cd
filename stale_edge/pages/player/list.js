// A list of any length that holds only the rows in sight: a listbox, by pointer and by keyboard.
class LongList {
  // fill(row, index) writes a row; choose(index) is called when one is chosen.
  constructor(box, height, fill, choose) {
    Object.assign(this, { box, height, fill, choose, count: 0, selected: -1, rows: new Map() });
    this.space = element("div", "space");
    box.append(this.space);
    box.addEventListener("scroll", () => this.draw());
    box.addEventListener("click", (event) => {
      const row = event.target.closest("[data-index]");
      if (row) this.choose(Number(row.dataset.index));
    });
    box.addEventListener("keydown", (event) => this.press(event));
    new ResizeObserver(() => this.draw()).observe(box);
  }

  show(count, selected, reveal = true) {
    this.count = count;
    this.space.style.height = `${count * this.height}px`;
    this.refresh();
    this.select(selected, reveal);
  }

  refresh() {
    for (const row of this.rows.values()) row.remove();
    this.rows.clear();
    this.draw();
  }

  select(index, reveal = true) {
    this.selected = index;
    if (reveal && index >= 0) {
      const top = index * this.height, room = this.box.clientHeight;
      if (top < this.box.scrollTop || top + this.height > this.box.scrollTop + room) {
        this.box.scrollTop = Math.max(0, top - (room - this.height) / 2);
      }
    }
    this.draw();
    for (const [place, row] of this.rows) row.setAttribute("aria-selected", String(place === index));
    if (this.rows.has(index)) this.box.setAttribute("aria-activedescendant", this.rows.get(index).id);
    else this.box.removeAttribute("aria-activedescendant");
  }

  draw(all = false) {
    const first = all ? 0 : Math.max(0, Math.floor(this.box.scrollTop / this.height) - 3);
    const last = all ? this.count : Math.min(this.count, Math.ceil((this.box.scrollTop + this.box.clientHeight) / this.height) + 3);
    for (const [index, row] of this.rows) {
      if (index >= first && index < last) continue;
      row.remove();
      this.rows.delete(index);
    }
    for (let index = first; index < last; index++) {
      if (this.rows.has(index)) continue;
      const row = element("div", "row");
      Object.assign(row, { id: `${this.box.id}-${index}`, role: "option" });
      row.dataset.index = index;
      row.style.height = `${this.height}px`;
      row.style.transform = `translateY(${index * this.height}px)`;
      row.setAttribute("aria-selected", String(index === this.selected));
      row.setAttribute("aria-setsize", this.count);
      row.setAttribute("aria-posinset", index + 1);
      this.rows.set(index, row);
      this.space.append(row);
      this.fill(row, index);
    }
  }

  press(event) {
    if (event.ctrlKey || event.metaKey || event.altKey) return;
    const page = Math.max(1, Math.floor(this.box.clientHeight / this.height) - 1);
    const wanted = { ArrowDown: this.selected + 1, ArrowUp: this.selected - 1, PageDown: this.selected + page,
      PageUp: this.selected - page, Home: 0, End: this.count - 1, Enter: this.selected }[event.key];
    if (wanted === undefined || this.count === 0) return;
    event.preventDefault();
    event.stopPropagation();
    this.choose(Math.max(0, Math.min(this.count - 1, wanted)));
  }
}
