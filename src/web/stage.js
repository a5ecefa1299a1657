// The stage: a concert drawn on a canvas. It knows nothing of the stream; the page calls `cheer(n)`
// when reactions arrive, and the lights and the crowd answer.
import { seeded } from "./chance.js";

const BEAT_MS = 60_000 / 122;
const LIGHTS = [
  { x: 0.10, hue: 335, phase: 0.0, speed: 0.31 },
  { x: 0.24, hue: 275, phase: 1.9, speed: 0.27 },
  { x: 0.38, hue: 205, phase: 3.1, speed: 0.35 },
  { x: 0.62, hue: 190, phase: 4.4, speed: 0.33 },
  { x: 0.76, hue: 290, phase: 5.2, speed: 0.29 },
  { x: 0.90, hue: 345, phase: 0.8, speed: 0.36 },
];
const ROWS = [
  { y: 0.845, size: 0.105, step: 0.040, bob: 0.006, shade: "#4a2370", light: "#b46adf" },
  { y: 0.905, size: 0.145, step: 0.055, bob: 0.010, shade: "#2b1549", light: "#8a4cc0" },
  { y: 0.985, size: 0.200, step: 0.078, bob: 0.015, shade: "#180d2c", light: "#7a43ae" },
];

/** @param {HTMLCanvasElement} canvas */
const pen = (canvas) => /** @type {CanvasRenderingContext2D} */ (canvas.getContext("2d"));

/**
 * Draws one person, from behind, into a sprite of `size` pixels: pose 0 watches, 1 raises one arm, 2 both, 3 holds a phone.
 * @param {number} size @param {number} pose @param {{shade: string, light: string}} colours
 */
function person(size, pose, { shade, light }) {
  const sprite = document.createElement("canvas");
  sprite.width = Math.ceil(size * 1.2);
  sprite.height = Math.ceil(size * 1.7);
  const g = pen(sprite);
  g.translate(sprite.width / 2, sprite.height - size);
  // Lit from the stage: bright at the edge of hair and hands, dark towards the viewer.
  const body = g.createLinearGradient(0, -size * 0.5, 0, size * 0.9);
  body.addColorStop(0, light);
  body.addColorStop(0.5, shade);
  body.addColorStop(1, "#0b0716");
  g.fillStyle = g.strokeStyle = body;
  g.lineCap = "round";
  g.beginPath();
  g.arc(0, size * 0.16, size * 0.155, 0, Math.PI * 2);
  g.fill();
  g.beginPath();
  g.moveTo(-size * 0.36, size);
  g.bezierCurveTo(-size * 0.40, size * 0.42, -size * 0.22, size * 0.38, 0, size * 0.30);
  g.bezierCurveTo(size * 0.22, size * 0.38, size * 0.40, size * 0.42, size * 0.36, size);
  g.fill();
  const arm = (/** @type {number} */ side, /** @type {number} */ handX, /** @type {number} */ handY) => {
    g.lineWidth = size * 0.105;
    g.beginPath();
    g.moveTo(side * size * 0.27, size * 0.52);
    g.quadraticCurveTo(side * size * 0.46, size * 0.22, side * handX * size, handY * size);
    g.stroke();
  };
  if (pose === 1 || pose === 2) arm(1, 0.36, -0.42);
  if (pose === 2) arm(-1, 0.38, -0.36);
  if (pose === 3) {
    arm(1, 0.24, -0.26);
    g.save();
    g.translate(size * 0.23, -size * 0.40);
    g.rotate(0.08);
    g.shadowColor = "#9fd8ff";
    g.shadowBlur = size * 0.14;
    g.fillStyle = "#cfeaff";
    g.fillRect(-size * 0.07, -size * 0.12, size * 0.14, size * 0.22);
    g.restore();
  }
  return sprite;
}

export class Stage {
  #canvas; #g; #width = 0; #height = 0; #scale = Math.min(devicePixelRatio || 1, 1.5);
  #energy = 0; #last = 0; #cost = 0; #frames = 0; #running = false; #onScreen = true; 
  /** @type {{people: {sprite: HTMLCanvasElement, x: number, lift: number, phase: number, keen: number}[], row: typeof ROWS[0]}[]} */ #crowd = [];
  #backdrop = document.createElement("canvas");
  #still = matchMedia("(prefers-reduced-motion: reduce)");

  /** @param {HTMLElement} element a canvas */
  constructor(element) {
    const canvas = this.#canvas = /** @type {HTMLCanvasElement} */ (element);
    this.#g = /** @type {CanvasRenderingContext2D} */ (canvas.getContext("2d", { alpha: false }));
    new ResizeObserver(() => this.#resize()).observe(canvas);
    new IntersectionObserver(([entry]) => { this.#onScreen = entry.isIntersecting; this.#wake(); }).observe(canvas);
    document.addEventListener("visibilitychange", () => this.#wake());
    this.#still.addEventListener("change", () => this.#wake());
    this.#resize();
  }

  /** The audience reacts: `reactions` more of them lift the energy, which fades within seconds. @param {number} reactions */
  cheer(reactions) {
    this.#energy = Math.min(1, this.#energy + 0.14 * Math.log2(1 + reactions));
  }

  #resize() {
    const box = this.#canvas.getBoundingClientRect();
    if (box.width === 0 || box.height === 0) return;
    this.#width = this.#canvas.width = Math.round(box.width * this.#scale);
    this.#height = this.#canvas.height = Math.round(box.height * this.#scale);
    this.#prepare();
    this.#draw(performance.now());
    this.#wake();
  }

  // What does not move is drawn once a size: backdrop, truss and the sprites of the crowd.
  #prepare() {
    const w = this.#width, h = this.#height, random = seeded(42);
    this.#backdrop = document.createElement("canvas");
    this.#backdrop.width = w;
    this.#backdrop.height = h;
    const g = pen(this.#backdrop);
    const sky = g.createLinearGradient(0, 0, 0, h);
    sky.addColorStop(0, "#0a0718");
    sky.addColorStop(0.55, "#2a0f45");
    sky.addColorStop(0.78, "#5a1a55");
    sky.addColorStop(1, "#0a0614");
    g.fillStyle = sky;
    g.fillRect(0, 0, w, h);
    g.strokeStyle = "#1b1430";
    g.lineWidth = Math.max(1, h * 0.005);
    g.beginPath();
    for (const y of [0.055, 0.095]) { g.moveTo(0, h * y); g.lineTo(w, h * y); }
    for (let x = 0, up = true; x < w; x += h * 0.04, up = !up) {
      g.moveTo(x, h * (up ? 0.095 : 0.055));
      g.lineTo(x + h * 0.04, h * (up ? 0.055 : 0.095));
    }
    g.stroke();
    this.#crowd = ROWS.map((row) => {
      const size = row.size * h, sprites = [0, 1, 2, 3].map((pose) => person(size, pose, row)), people = [];
      const step = row.step * h * 1.55;
      for (let x = -step; x < w + step; x += step * (0.85 + random() * 0.3)) {
        const dice = random();
        people.push({
          sprite: sprites[dice < 0.5 ? 0 : dice < 0.7 ? 1 : dice < 0.88 ? 2 : 3],
          x, lift: (random() - 0.5) * size * 0.16, phase: random() * 1.4, keen: 0.5 + random() * 0.5,
        });
      }
      return { people, row };
    });
  }

  #wake() {
    const run = this.#onScreen && !document.hidden && !this.#still.matches;
    if (run && !this.#running) {
      this.#running = true;
      requestAnimationFrame((now) => this.#frame(now));
    } else if (!run) {
      this.#running = false;
      if (this.#width > 0 && !document.hidden) this.#draw(0);
    }
  }

  /** @param {number} now */
  #frame(now) {
    if (!this.#running) return;
    if (now - this.#last >= 30) {
      const seconds = Math.min(0.1, (now - this.#last) / 1000);
      this.#last = now;
      this.#energy *= Math.exp(-seconds / 2.2);
      const began = performance.now();
      this.#draw(now);
      this.#economise(performance.now() - began);
    }
    requestAnimationFrame((next) => this.#frame(next));
  }

  // On a slow machine the picture gets coarser, so that it never takes time from the stream.
  /** @param {number} cost */
  #economise(cost) {
    this.#cost += cost;
    if (++this.#frames < 40) return;
    if (this.#cost / this.#frames > 8 && this.#scale > 0.6) {
      this.#scale *= 0.75;
      this.#resize();
    }
    this.#cost = this.#frames = 0;
  }

  /** @param {number} now */
  #draw(now) {
    const g = this.#g, w = this.#width, h = this.#height, time = now / 1000;
    const beat = 1 - ((now % BEAT_MS) / BEAT_MS);
    const glow = 0.55 + 0.25 * beat * beat + 0.45 * this.#energy;
    g.globalCompositeOperation = "source-over";
    g.drawImage(this.#backdrop, 0, 0);
    this.#wall(g, w, h, now, glow);
    this.#booth(g, w, h, now, glow);
    g.globalCompositeOperation = "lighter";
    for (const light of LIGHTS) this.#beam(g, w, h, light, time, glow);
    this.#haze(g, w, h, time, glow);
    g.globalCompositeOperation = "source-over";
    for (const { people, row } of this.#crowd) {
      const reach = row.bob * h * (0.7 + 1.8 * this.#energy);
      for (const one of people) {
        const jump = Math.abs(Math.sin((now / BEAT_MS) * Math.PI * 0.5 + one.phase)) * reach * one.keen;
        g.drawImage(one.sprite, one.x - one.sprite.width / 2, row.y * h - one.sprite.height * 0.5 + one.lift - jump);
      }
    }
  }

  // The LED wall: columns that follow the beat, the middle ones highest.
  /** @param {CanvasRenderingContext2D} g @param {number} w @param {number} h @param {number} now @param {number} glow */
  #wall(g, w, h, now, glow) {
    const columns = 36, left = w * 0.17, width = w * 0.66, floor = h * 0.70, gap = width / columns;
    for (let i = 0; i < columns; i++) {
      const middle = 1 - Math.abs(i - (columns - 1) / 2) / (columns / 2);
      const wave = Math.sin(now / 310 + i * 0.7) * 0.5 + Math.sin(now / 173 + i * 1.31) * 0.5;
      const cells = Math.round((0.24 + 0.42 * middle + 0.22 * (wave * 0.5 + 0.5) + 0.18 * this.#energy) * 17);
      const hue = 330 - 120 * (i / columns);
      for (let cell = 0; cell < Math.min(cells, 19); cell++) {
        g.fillStyle = `hsl(${hue + cell * 2.4} 92% ${30 + cell * 1.9}% / ${Math.min(0.9, glow * (0.42 + cell * 0.026))})`;
        g.fillRect(left + i * gap + gap * 0.16, floor - (cell + 1) * h * 0.0295, gap * 0.68, h * 0.0195);
      }
    }
  }

  /** @param {CanvasRenderingContext2D} g @param {number} w @param {number} h @param {number} now @param {number} glow */
  #booth(g, w, h, now, glow) {
    const x = w / 2, y = h * 0.70, unit = h * 0.01, sway = Math.sin(now / BEAT_MS * Math.PI) * unit * 0.7;
    const halo = g.createRadialGradient(x, y - unit * 12, unit, x, y - unit * 12, unit * 30);
    halo.addColorStop(0, `rgb(255 236 246 / ${0.55 * glow})`);
    halo.addColorStop(1, "rgb(255 120 190 / 0)");
    g.fillStyle = halo;
    g.fillRect(x - unit * 30, y - unit * 42, unit * 60, unit * 60);
    g.fillStyle = g.strokeStyle = "#0b0716";
    g.lineCap = "round";
    g.beginPath();
    g.ellipse(x + sway, y - unit * 21.2, unit * 2.3, unit * 2.8, 0, 0, Math.PI * 2);
    g.fill();
    g.fillRect(x + sway - unit * 0.95, y - unit * 19.5, unit * 1.9, unit * 3);
    g.beginPath();
    g.moveTo(x - unit * 3.8, y - unit * 4);
    g.lineTo(x - unit * 4.9, y - unit * 14);
    g.quadraticCurveTo(x - unit * 4.9, y - unit * 17, x + sway - unit, y - unit * 17.4);
    g.lineTo(x + sway + unit, y - unit * 17.4);
    g.quadraticCurveTo(x + unit * 4.9, y - unit * 17, x + unit * 4.9, y - unit * 14);
    g.lineTo(x + unit * 3.8, y - unit * 4);
    g.fill();
    g.lineWidth = unit * 1.9;
    g.lineJoin = "round";
    g.beginPath();
    g.moveTo(x - unit * 4.1, y - unit * 15.6);
    g.lineTo(x - unit * 7.4, y - unit * 10.8);
    g.lineTo(x - unit * 4.2 + sway, y - unit * 7.2);
    g.moveTo(x + unit * 4.1, y - unit * 15.6);
    g.lineTo(x + unit * 7.2, y - unit * 19.4);
    g.lineTo(x + unit * 6.2 + sway * 2, y - unit * (26 + 2 * this.#energy));
    g.stroke();
    g.fillRect(0, y + unit * 4.6, w, h - y);
    g.beginPath();
    g.moveTo(x - unit * 17, y - unit * 6.5);
    g.lineTo(x + unit * 17, y - unit * 6.5);
    g.lineTo(x + unit * 19, y + unit * 5);
    g.lineTo(x - unit * 19, y + unit * 5);
    g.fill();
    g.fillStyle = `hsl(335 95% 62% / ${Math.min(1, glow)})`;
    g.fillRect(x - unit * 16.6, y - unit * 6.5, unit * 33.2, unit * 0.55);
    g.fillRect(0, y + unit * 4.6, w, unit * 0.4);
    const floor = g.createLinearGradient(0, y + unit * 5, 0, y + unit * 22);
    floor.addColorStop(0, `hsl(322 90% 45% / ${0.55 * glow})`);
    floor.addColorStop(1, "hsl(300 90% 30% / 0)");
    g.fillStyle = floor;
    g.fillRect(0, y + unit * 5, w, unit * 17);
    for (let i = -3; i <= 3; i++) {
      g.fillStyle = `hsl(${322 - i * 22} 95% 66% / ${0.35 + 0.55 * Math.abs(Math.sin(now / 260 + i * 1.7)) * glow})`;
      g.fillRect(x + i * unit * 4.4 - unit * 1.5, y - unit * 2.6, unit * 3, unit * 5.2);
    }
  }

  /** @param {CanvasRenderingContext2D} g @param {number} w @param {number} h @param {typeof LIGHTS[0]} light @param {number} time @param {number} glow */
  #beam(g, w, h, light, time, glow) {
    const x = light.x * w, y = h * 0.085, length = h * 0.98;
    const angle = Math.sin(time * light.speed * 2.2 + light.phase) * 0.52 + (0.5 - light.x) * 0.55;
    g.save();
    g.translate(x, y);
    g.rotate(-angle);
    const cone = g.createLinearGradient(0, 0, 0, length);
    cone.addColorStop(0, `hsl(${light.hue} 100% 78% / ${0.42 * glow})`);
    cone.addColorStop(0.35, `hsl(${light.hue} 100% 62% / ${0.17 * glow})`);
    cone.addColorStop(1, `hsl(${light.hue} 100% 55% / 0)`);
    g.fillStyle = cone;
    for (const spread of [0.11, 0.055]) {
      g.beginPath();
      g.moveTo(-h * 0.008, 0);
      g.lineTo(h * 0.008, 0);
      g.lineTo(length * spread, length);
      g.lineTo(-length * spread, length);
      g.fill();
    }
    g.fillStyle = `hsl(${light.hue} 100% 92% / ${Math.min(1, glow + 0.2)})`;
    g.beginPath();
    g.arc(0, 0, h * 0.0095, 0, Math.PI * 2);
    g.fill();
    g.restore();
  }

  /** @param {CanvasRenderingContext2D} g @param {number} w @param {number} h @param {number} time @param {number} glow */
  #haze(g, w, h, time, glow) {
    for (let i = 0; i < 3; i++) {
      const x = w * (0.5 + 0.42 * Math.sin(time * 0.11 + i * 2.1)), y = h * 0.74, radius = h * 0.42;
      const cloud = g.createRadialGradient(x, y, 0, x, y, radius);
      cloud.addColorStop(0, `hsl(${300 + i * 20} 80% 55% / ${0.13 * glow})`);
      cloud.addColorStop(1, "transparent");
      g.fillStyle = cloud;
      g.fillRect(x - radius, y - radius, radius * 2, radius * 2);
    }
  }
}
