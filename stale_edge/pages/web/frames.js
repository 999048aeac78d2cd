// Frames on screen at sample times, read by an unseen player of the browser.
import { Refusal } from "./npy.js";

const SLACK_S = 1e-6;
// A time is sought a little after the sample: times of frames are rounded to ticks, and a sample may be one of them.
const AFTER_S = 1e-3;
const PATIENCE_MS = 30000;
const FORMATS = "H.264 in .mp4 and VP9 in .webm play in every browser";

export class FrameReader {
  static async open(address) {
    const reader = new FrameReader();
    reader.video = Object.assign(document.createElement("video"), { muted: true, preload: "auto", playsInline: true });
    const ready = reader.next("loadeddata", "is no video that this browser reads; " + FORMATS);
    reader.video.src = address;
    await ready;
    const { duration, videoWidth } = reader.video;
    if (!videoWidth) throw new Refusal("holds no picture that this browser reads; " + FORMATS);
    if (!Number.isFinite(duration) || duration <= 0) throw new Refusal("tells no length; write it again with `ffmpeg -i IN -c copy OUT.mp4`");
    reader.canvas = Object.assign(document.createElement("canvas"), { width: videoWidth, height: reader.video.videoHeight });
    reader.context = reader.canvas.getContext("2d", { willReadFrequently: true, alpha: false });
    return reader;
  }

  get duration() { return this.video.duration; }

  // Number of samples before the end; at least one.
  samples(step) { return Math.max(1, Math.ceil((this.duration - SLACK_S) / step)); }

  async at(time) {
    const sought = this.next("seeked", `is damaged at ${time.toFixed(1)} s`);
    this.video.currentTime = Math.min(time + AFTER_S, this.duration);
    await sought;
    this.context.drawImage(this.video, 0, 0);
    return this.context.getImageData(0, 0, this.canvas.width, this.canvas.height);
  }

  next(name, problem) {
    return new Promise((done, failed) => {
      const fail = () => failed(new Refusal(problem));
      const waiting = setTimeout(fail, PATIENCE_MS);
      const settle = (how) => () => { clearTimeout(waiting); how(); };
      this.video.addEventListener(name, settle(done), { once: true });
      this.video.addEventListener("error", settle(fail), { once: true });
    });
  }

  close() {
    this.video.removeAttribute("src");
    this.video.load();
  }
}
