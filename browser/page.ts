/** The page: runs the three programs in turn and shows the time and memory that each takes. */

interface Program {
  readonly HEAPU8: Uint8Array;
  _step(): void;
  _draw(): number;
  _width(): number;
  _height(): number;
  _spark_count(): number;
  _checksum(): number;
  _heap_bytes(): number;
}

interface Panel {
  readonly name: string;
  readonly program: Program;
  readonly wasmBytes: number;
  readonly context: CanvasRenderingContext2D;
  readonly show: (value: string, text: string) => void;
  /** The time of each step in milliseconds, and the size of the heap after it in bytes. */
  readonly times: number[];
  readonly heaps: number[];
}

const NAMES = ["dlmalloc", "emmalloc", "rsbmalloc"];
const MEDIAN_OF = 20;
const MIB = 1024 * 1024;

const query = new URLSearchParams(location.search);
const STEPS = Number(query.get("steps") ?? 900);

const byId = (id: string): HTMLElement => document.getElementById(id)!;
const mib = (bytes: number): string => `${(bytes / MIB).toFixed(2)} MiB`;

async function load(name: string): Promise<Panel> {
  const wasmBinary = await (await fetch(`${name}.wasm`)).arrayBuffer();
  const create = ((await import(`./${name}.mjs`)) as { default: (module: object) => Promise<Program> })
    .default;
  const program = await create({ wasmBinary });

  const template = byId("panel") as HTMLTemplateElement;
  const article = (template.content.cloneNode(true) as DocumentFragment).firstElementChild as HTMLElement;
  article.id = name;
  article.style.setProperty("--color", `var(--${name})`);
  article.querySelector("h2")!.textContent = name;
  byId("panels").append(article);

  const canvas = article.querySelector("canvas")!;
  canvas.width = program._width();
  canvas.height = program._height();
  const show = (value: string, text: string) => {
    article.querySelector(`[data-value="${value}"]`)!.textContent = text;
  };
  const context = canvas.getContext("2d")!;
  return { name, program, wasmBytes: wasmBinary.byteLength, context, show, times: [], heaps: [] };
}

function step({ program, times, heaps }: Panel): void {
  const start = performance.now();
  program._step();
  times.push(performance.now() - start);
  heaps.push(program._heap_bytes());
}

function draw({ program, context }: Panel): void {
  const { width, height } = context.canvas;
  const address = program._draw();
  const pixels = new Uint8ClampedArray(program.HEAPU8.buffer, address, width * height * 4);
  context.putImageData(new ImageData(pixels.slice(), width, height), 0, 0);
}

function showNumbers({ program, wasmBytes, times, heaps, show }: Panel): void {
  const total = times.reduce((sum, time) => sum + time, 0);
  show("time", `${total.toFixed(0)} ms`);
  show("heap", mib(heaps.at(-1) ?? 0));
  show("memory", mib(program.HEAPU8.length));
  show("size", `${wasmBytes.toLocaleString("en")} B`);
  show("sparks", program._spark_count().toLocaleString("en"));
  show("checksum", (program._checksum() >>> 0).toString(16));
}

/** Returns the medians of groups of `count` values, so that pauses of the browser do not count. */
function medians(values: readonly number[], count: number): number[] {
  return Array.from({ length: Math.floor(values.length / count) }, (_, group) => {
    const sorted = values.slice(group * count, (group + 1) * count).sort((a, b) => a - b);
    return sorted[Math.floor(count / 2)]!;
  });
}

/** Draws a line for each panel; `lengthAtEnd` is the number of values when all steps are done. */
function chart(
  id: string,
  panels: readonly Panel[],
  values: (panel: Panel) => number[],
  lengthAtEnd: number,
): void {
  const svg = byId(id);
  const [, , width, height] = svg.getAttribute("viewBox")!.split(" ").map(Number) as [
    number,
    number,
    number,
    number,
  ];
  const lines = panels.map((panel) => ({ name: panel.name, values: values(panel) }));
  const most = Math.max(...lines.flatMap((line) => line.values)) || 1;
  const namespace = "http://www.w3.org/2000/svg";
  const polylines = lines.map((line) => {
    const polyline = document.createElementNS(namespace, "polyline");
    const points = line.values.map((value, i) => [
      (i / (lengthAtEnd - 1)) * width,
      height - (value / most) * (height - 20),
    ]);
    polyline.setAttribute("points", points.map((point) => point.map((n) => n.toFixed(1)).join()).join(" "));
    polyline.style.setProperty("--color", `var(--${line.name})`);
    return polyline;
  });
  const label = document.createElementNS(namespace, "text");
  label.setAttribute("x", "4");
  label.setAttribute("y", "14");
  label.textContent = most.toFixed(2);
  svg.replaceChildren(...polylines, label);
}

function showAll(panels: readonly Panel[], done: number): void {
  for (const panel of panels) showNumbers(panel);
  chart("time-chart", panels, ({ times }) => medians(times, MEDIAN_OF), STEPS / MEDIAN_OF);
  chart("memory-chart", panels, ({ heaps }) => heaps.map((heap) => heap / MIB), STEPS);
  byId("progress").textContent = done < STEPS ? `step ${done} of ${STEPS}` : `all ${STEPS} steps done`;
  document.body.dataset["state"] = done < STEPS ? "running" : "done";
}

async function run(): Promise<void> {
  const panels: Panel[] = [];
  for (const name of NAMES) panels.push(await load(name));
  let paused = false;
  byId("pause").addEventListener("click", ({ target }) => {
    paused = !paused;
    (target as HTMLElement).textContent = paused ? "Resume" : "Pause";
    if (!paused) requestAnimationFrame(frame);
  });
  let done = 0;
  const frame = () => {
    if (paused || done === STEPS) return;
    // The first one finds the caches cold, so take turns at being first.
    for (let i = 0; i < panels.length; i++) step(panels[(done + i) % panels.length]!);
    done++;
    for (const panel of panels) draw(panel);
    if (done % 10 === 0 || done === STEPS) showAll(panels, done);
    requestAnimationFrame(frame);
  };
  requestAnimationFrame(frame);
}

byId("restart").addEventListener("click", () => location.reload());
run().catch((error: unknown) => {
  byId("progress").textContent = String(error);
  document.body.dataset["state"] = "failed";
});
