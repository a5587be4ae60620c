"use strict";

document.querySelectorAll(".without-script").forEach((note) => note.remove());

// Tables whose columns can be sorted: a button in each heading, which a screen reader hears the order of.
for (const table of document.querySelectorAll("table.sortable")) {
  const headings = [...table.tHead.rows[0].cells];
  headings.forEach((heading, column) => {
    const button = document.createElement("button");
    button.type = "button";
    button.append(...heading.childNodes);
    heading.append(button);
    button.addEventListener("click", () => {
      const up = heading.getAttribute("aria-sort") !== "ascending";
      headings.forEach((other) => other.removeAttribute("aria-sort"));
      heading.setAttribute("aria-sort", up ? "ascending" : "descending");
      const key = (row) => row.cells[column]?.dataset.value ?? row.cells[column]?.textContent ?? "";
      const rows = [...table.tBodies[0].rows].sort((a, b) => {
        const [x, y] = [key(a), key(b)];
        const order = x !== "" && y !== "" && !isNaN(x) && !isNaN(y) ? x - y : x.localeCompare(y);
        return up ? order : -order;
      });
      table.tBodies[0].append(...rows);
    });
  });
}

const explorer = document.getElementById("explorer");
if (explorer) explore(explorer, JSON.parse(document.getElementById("explorer-data").textContent));

function explore(root, data) {
  const find = (name) => root.querySelector(`[data-part="${name}"]`);
  const [layerSelect, tileInput, overview, facts, readout] = ["layer", "tile", "overview", "facts", "readout"].map(find);
  const panels = find("panels");
  const cursor = { row: 0, col: 0 };
  let shown = null;

  const layer = () => data.layers[layerSelect.value];
  const entry = () => layer().tiles.find(([number]) => number === Number(tileInput.value));
  const byLoss = () => root.querySelector("input[type=radio]:checked").value === "loss";
  const css = (name) => getComputedStyle(document.documentElement).getPropertyValue(name).trim();
  const percent = (fraction) => `${Number((100 * fraction).toPrecision(3))}\u00a0%`;
  const worst = (each) => each.tiles.reduce((best, tile) => ((tile[5] ?? 0) > (best[5] ?? 0) ? tile : best));

  // From nothing to much: a ramp of one hue in lightness, so that it reads without colour, too.
  const ramp = (x) => {
    const stops = [[68, 1, 84], [59, 82, 139], [33, 145, 140], [94, 201, 98], [253, 231, 37]];
    const at = Math.min(Math.max(x, 0), 1) * (stops.length - 1);
    const low = Math.min(Math.floor(at), stops.length - 2);
    return stops[low].map((from, k) => Math.round(from + (stops[low + 1][k] - from) * (at - low)));
  };

  data.layers.forEach((each, index) => layerSelect.add(new Option(each.name, index)));
  layerSelect.addEventListener("change", () => chooseTile(worst(layer())[0]));
  tileInput.addEventListener("change", () => chooseTile(Number(tileInput.value)));
  root.querySelectorAll("input[type=radio]").forEach((input) => input.addEventListener("change", drawOverview));
  overview.addEventListener("click", (event) => {
    if (event.target.dataset.tile) chooseTile(Number(event.target.dataset.tile));
  });
  // It opens at the tile that loses most.
  const first = data.layers.reduce((best, each) => (worst(each)[5] > worst(best)[5] ? each : best));
  layerSelect.value = data.layers.indexOf(first);
  matchMedia("(prefers-color-scheme: dark)").addEventListener("change", drawCells);
  chooseTile(worst(first)[0]);
  root.hidden = false;

  function chooseTile(number) {
    const tiles = layer().tiles;
    // The nearest tile that the page knows; a large layer lists some of its tiles only.
    const known = tiles.reduce((best, [each]) => (Math.abs(each - number) < Math.abs(best - number) ? each : best), tiles[0][0]);
    tileInput.max = tiles[tiles.length - 1][0];
    tileInput.value = known;
    Object.assign(cursor, { row: 0, col: 0 });
    drawOverview();
    showTile();
  }

  function drawOverview() {
    const tiles = layer().tiles;
    const across = Math.max(1, Math.min(64, Math.ceil(Math.sqrt(3 * tiles.length))));
    const most = Math.max(1e-12, ...tiles.map((tile) => tile[5] ?? 0));
    const cells = data.rows * data.cols;
    overview.setAttribute("viewBox", `0 0 ${across} ${Math.ceil(tiles.length / across)}`);
    overview.style.maxWidth = `${Math.min(across * 34, 1030)}px`;
    overview.replaceChildren(
      ...tiles.map((tile, index) => {
        const rect = document.createElementNS("http://www.w3.org/2000/svg", "rect");
        const share = byLoss() ? (tile[5] === null ? null : tile[5] / most) : tile[1] / cells;
        rect.setAttribute("x", (index % across) + 0.06);
        rect.setAttribute("y", Math.floor(index / across) + 0.06);
        rect.setAttribute("width", 0.88);
        rect.setAttribute("height", 0.88);
        rect.setAttribute("fill", share === null ? css("--grid") : `rgb(${ramp(share).join(",")})`);
        if (tile[0] === Number(tileInput.value)) rect.classList.add("chosen");
        rect.dataset.tile = tile[0];
        return rect;
      }),
    );
    const measure = byLoss() ? `voltage lost on wires, up to ${percent(most)} of the read voltage` : "cells that are there, of all";
    overview.setAttribute("aria-label", `${tiles.length} tiles of ${layer().name}, coloured by ${measure}`);
    find("scale").textContent = `${measure}; ${tiles.length} of ${layer().count} tiles`;
  }

  async function showTile() {
    const [number, cells, rows, cols, bits, loss] = entry();
    const lost = loss === null ? "not solved" : `${percent(loss)} of the read voltage`;
    facts.textContent =
      `${layer().name}, tile ${number}: ${cells} cells on ${rows} word lines and ${cols} bit lines, ` +
      `${bits}-bit ADCs, largest voltage loss: ${lost}.`;
    const packed = layer().cells[number];
    shown = null;
    panels.hidden = !packed;
    readout.textContent = packed ? "" : "The cells of this tile are not on this page; they are in maps.h5.";
    if (!packed) return;
    const bytes = Uint8Array.from(atob(packed.data), (letter) => letter.charCodeAt(0));
    const stream = new Blob([bytes]).stream().pipeThrough(new DecompressionStream("deflate"));
    const plain = await new Response(stream).arrayBuffer();
    if (number !== Number(tileInput.value)) return;
    const size = data.rows * data.cols;
    shown = {
      codes: new Int8Array(plain, 0, size),
      losses: Array.from({ length: packed.polarities }, (_, k) => new Uint8Array(plain, size * (k + 1), size)),
      loss: packed.loss,
    };
    const names = packed.polarities === 2 ? ["positive array", "negative array"] : ["array"];
    panels.replaceChildren(
      panel("Weights: blue positive, orange negative"),
      ...names.map((name) => panel(`Voltage lost, ${name}: 0 to ${percent(packed.loss)}`)),
    );
    drawCells();
  }

  function panel(title) {
    const figure = document.createElement("figure");
    const canvas = document.createElement("canvas");
    const caption = document.createElement("figcaption");
    [canvas.width, canvas.height] = [data.cols, data.rows];
    canvas.tabIndex = 0;
    canvas.setAttribute("role", "img");
    canvas.setAttribute("aria-label", `${title}, cell by cell; arrow keys read one out`);
    caption.textContent = title;
    canvas.addEventListener("pointermove", (event) => {
      const box = canvas.getBoundingClientRect();
      moveTo(
        Math.floor(((event.clientY - box.top) / box.height) * data.rows),
        Math.floor(((event.clientX - box.left) / box.width) * data.cols),
      );
    });
    canvas.addEventListener("keydown", (event) => {
      const step = { ArrowUp: [-1, 0], ArrowDown: [1, 0], ArrowLeft: [0, -1], ArrowRight: [0, 1] }[event.key];
      if (!step) return;
      event.preventDefault();
      moveTo(cursor.row + step[0], cursor.col + step[1]);
    });
    figure.append(canvas, caption);
    return figure;
  }

  function moveTo(row, col) {
    cursor.row = Math.min(Math.max(row, 0), data.rows - 1);
    cursor.col = Math.min(Math.max(col, 0), data.cols - 1);
    const index = cursor.row * data.cols + cursor.col;
    const used = shown.losses[0][index] > 0;
    const losses = shown.losses.map((values) => percent(((values[index] - 1) / 254) * shown.loss));
    const code = shown.codes[index];
    readout.textContent =
      `word line ${cursor.row}, bit line ${cursor.col}: ` +
      (used
        ? `${code ? `weight code ${code} of ${layer().largest}` : "no weight"}; voltage lost: ${losses.join(" and ")}.`
        : "not used.");
    drawCells();
  }

  function drawCells() {
    if (!shown) return;
    for (const canvas of panels.querySelectorAll("canvas")) {
      const context = canvas.getContext("2d");
      const image = context.createImageData(data.cols, data.rows);
      const which = [...panels.querySelectorAll("canvas")].indexOf(canvas) - 1;
      for (let k = 0; k < data.rows * data.cols; k++) {
        let colour, alpha = 255;
        if (which < 0) {
          const code = shown.codes[k];
          colour = code >= 0 ? [42, 111, 219] : [217, 130, 30];
          alpha = code ? 255 * (0.3 + (0.7 * Math.abs(code)) / layer().largest) : 0;
        } else {
          const step = shown.losses[which][k];
          colour = ramp((step - 1) / 254);
          alpha = step ? 255 : 0;
        }
        image.data.set([...colour, alpha], 4 * k);
      }
      context.putImageData(image, 0, 0);
      if (document.activeElement === canvas || canvas.matches(":hover")) {
        context.fillStyle = css("--red");
        context.fillRect(cursor.col, cursor.row, 1, 1);
      }
    }
  }
}
