// Small frames along the timeline: those packed in the page, or those that the browser reads from the video itself.
class Thumbnails {
  constructor(changed) {
    this.changed = changed;
    this.job = 0;
    this.clear();
  }

  clear() {
    this.job += 1;
    this.frames = [];
    this.aspect = 0;
  }

  // Frame at a part of the video from 0 to 1, as arguments of drawImage; nothing where there is none yet.
  at(part) {
    if (!this.frames.length) return null;
    const frame = this.frames[Math.max(0, Math.min(this.frames.length - 1, Math.floor(part * this.frames.length)))];
    return frame || null;
  }

  useSprite(sprite) {
    this.clear();
    const job = this.job, picture = new Image();
    picture.onload = () => {
      if (job !== this.job) return;
      this.aspect = sprite.width / sprite.height;
      this.frames = Array.from({ length: sprite.frames },
        (_, place) => [picture, place * sprite.width, 0, sprite.width, sprite.height]);
      this.changed();
    };
    picture.src = "data:image/jpeg;base64," + sprite.jpeg;
  }

  // Reads frames one after the other by a second, unseen player of the same file.
  async read(address, count) {
    this.clear();
    const job = this.job, reader = document.createElement("video");
    reader.muted = true;
    reader.preload = "auto";
    const next = (name) => new Promise((done, failed) => {
      reader.addEventListener(name, done, { once: true });
      reader.addEventListener("error", failed, { once: true });
    });
    try {
      const ready = next("loadeddata");
      reader.src = address;
      await ready;
      if (job !== this.job || !Number.isFinite(reader.duration) || !reader.videoWidth) return;
      const height = 54, width = Math.round(height * reader.videoWidth / reader.videoHeight);
      this.aspect = width / height;
      this.frames = new Array(count).fill(null);
      for (let place = 0; place < count && job === this.job; place++) {
        const sought = next("seeked");
        reader.currentTime = reader.duration * (place + 0.5) / count;
        await sought;
        if (job !== this.job) return;
        const copy = document.createElement("canvas");
        copy.width = width * 2;
        copy.height = height * 2;
        copy.getContext("2d").drawImage(reader, 0, 0, copy.width, copy.height);
        this.frames[place] = [copy, 0, 0, copy.width, copy.height];
        this.changed();
      }
    } catch {
      // The player itself says that the file cannot be read.
    } finally {
      reader.removeAttribute("src");
      reader.load();
    }
  }
}
