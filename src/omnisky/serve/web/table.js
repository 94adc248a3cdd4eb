// The lassoed objects as a table that can be sorted and taken away: CSV, VOTable.

import { said, spoken } from "./data.js";
import { thumb } from "./picture.js";

const PAGE = 60;

export class Table {
  constructor(element, sky, pick, close) {
    Object.assign(this, { element, sky, pick, close, sorted: null, up: true, shown: PAGE });
  }

  // `more` columns stand behind those of the sky.
  async show(rows, more) {
    await this.sky.ids();
    Object.assign(this, { columns: [...this.sky.shown, ...more], rows: [...rows], sorted: null, shown: PAGE });
    this.element.hidden = !rows.length;
    if (!rows.length) return;
    this.element.innerHTML = `<header><h2></h2><div><button class="csv">CSV</button><button class="vo">VOTable</button><button class="quiet" aria-label="Close">✕</button></div></header><div class="scroll" tabindex="0"><table><thead><tr></tr></thead><tbody></tbody></table></div>`;
    this.element.querySelector("h2").textContent = `${rows.length.toLocaleString("en")} selected`;
    const [csv, vo, close] = this.element.querySelectorAll("button");
    csv.onclick = () => save(asCSV(this), "selection.csv", "text/csv");
    vo.onclick = () => save(asVOTable(this), "selection.vot", "application/x-votable+xml");
    close.onclick = () => this.close();
    this.head();
    this.fill();
    const scroll = this.element.querySelector(".scroll");
    scroll.onscroll = () => {
      if (scroll.scrollTop + scroll.clientHeight > scroll.scrollHeight - 80 && this.shown < this.rows.length) { this.shown += PAGE; this.fill(); }
    };
  }

  head() {
    const line = this.element.querySelector("thead tr");
    line.replaceChildren();
    const pictures = this.sky.about.picture ? [["", null]] : [];
    for (const [name, column] of [...pictures, ["id", "id"], ...this.columns.map((column) => [spoken(column.name), column])]) {
      const cell = line.appendChild(document.createElement("th"));
      cell.scope = "col";
      if (!column) continue;
      if (column !== "id" && !column.names) cell.className = "number";
      const button = cell.appendChild(document.createElement("button"));
      button.textContent = name;
      if (this.sorted === column) cell.ariaSort = this.up ? "ascending" : "descending";
      button.onclick = () => this.sort(column);
    }
  }

  sort(column) {
    this.up = this.sorted === column ? !this.up : true;
    this.sorted = column;
    const value = column === "id" ? (row) => this.sky.names[row] : (row) => column.values[row];
    const sign = this.up ? 1 : -1;
    const missing = (x) => typeof x === "number" && Number.isNaN(x);
    this.rows.sort((a, b) => {
      const [x, y] = [value(a), value(b)];
      if (missing(x) || missing(y)) return missing(x) - missing(y);
      return x < y ? -sign : x > y ? sign : 0;
    });
    this.head();
    this.fill();
  }

  fill() {
    const body = this.element.querySelector("tbody");
    body.replaceChildren(...this.rows.slice(0, this.shown).map((row) => this.line(row)));
  }

  line(row) {
    const line = document.createElement("tr");
    line.dataset.row = row;
    if (this.sky.about.picture) {
      const cell = line.appendChild(document.createElement("td"));
      if (this.sky.pictured(row)) cell.append(thumb(this.sky, row, 28));
    }
    const name = line.appendChild(document.createElement("td")).appendChild(document.createElement("button"));
    name.className = "link";
    name.textContent = this.sky.names[row];
    for (const column of this.columns) {
      const cell = line.appendChild(document.createElement("td"));
      cell.textContent = column.type === "f8" ? (Number.isFinite(column.values[row]) ? column.values[row].toFixed(5).replace("-", "−") : "–") : said(column.values[row], column);
      if (!column.names) cell.className = "number";
    }
    line.onclick = () => this.pick(row);
    return line;
  }
}

const exact = (column, row) => {
  const value = column.values[row];
  if (column.names) return column.names[value] ?? "";
  if (!Number.isFinite(value)) return "";
  return column.type === "f4" ? String(+value.toPrecision(8)) : String(value);
};

export function asCSV({ sky, rows, columns }) {
  const quoted = (text) => (/[",\n\r]/.test(text) ? `"${text.replaceAll('"', '""')}"` : text);
  const lines = [["object_id", ...columns.map((column) => column.name)], ...rows.map((row) => [sky.names[row], ...columns.map((column) => exact(column, row))])];
  return lines.map((line) => line.map(quoted).join(",")).join("\r\n") + "\r\n";
}

const xml = (text) => String(text).replace(/[&<>"']/g, (letter) => `&#${letter.charCodeAt(0)};`);
const UCD = { ra: "pos.eq.ra;meta.main", dec: "pos.eq.dec;meta.main" };

export function asVOTable({ sky, rows, columns }) {
  const fields = columns.map((column) => {
    const unit = column.unit ? ` unit="${xml(column.unit)}"` : "";
    const kind = column.names ? 'datatype="unicodeChar" arraysize="*"' : `datatype="${column.type === "f8" ? "double" : "float"}"`;
    return `<FIELD name="${xml(column.name)}" ${kind}${unit}${UCD[column.name] ? ` ucd="${UCD[column.name]}"` : ""}/>`;
  });
  const body = rows.map((row) => `<TR><TD>${xml(sky.names[row])}</TD>${columns.map((column) => `<TD>${xml(exact(column, row))}</TD>`).join("")}</TR>`);
  return `<?xml version="1.0" encoding="UTF-8"?>
<VOTABLE version="1.4" xmlns="http://www.ivoa.net/xml/VOTable/v1.3"><RESOURCE type="results"><COOSYS ID="icrs" system="ICRS"/><TABLE>
<DESCRIPTION>${xml(sky.about.title)}: a selection of the Omnisky explorer, embeddings of ${xml(sky.about.signature)}</DESCRIPTION>
<FIELD name="object_id" datatype="unicodeChar" arraysize="*" ucd="meta.id;meta.main"/>
${fields.join("\n")}
<DATA><TABLEDATA>
${body.join("\n")}
</TABLEDATA></DATA></TABLE></RESOURCE></VOTABLE>
`;
}

function save(text, name, type) {
  const link = document.createElement("a");
  link.href = URL.createObjectURL(new Blob([text], { type }));
  link.download = name;
  link.click();
  setTimeout(() => URL.revokeObjectURL(link.href), 1000);
}
