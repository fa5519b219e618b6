/** Lines of text with styles, laid out for the width of a terminal. */
import { escaped } from '../../domain/text.ts';

const CODES = { bold: '1', dim: '2', red: '31', green: '32', yellow: '33' } as const;
export type Style = keyof typeof CODES;

/** A part of a line. Its text may be from anybody: nothing in it reaches a terminal as a code. */
export interface Piece {
  readonly text: string;
  readonly style?: Style | undefined;
}
export type Line = readonly Piece[];
/** A cell of a table: its text, or that with a style. */
export type Cell = string | Piece;

/** Returns the lines as text for a terminal, or as plain text without `isColored`. */
export const drawn = (lines: readonly Line[], isColored: boolean): string =>
  lines.map(line => `${line.map(piece => painted(piece, isColored)).join('')}\n`).join('');

const painted = ({ text, style }: Piece, isColored: boolean): string => {
  const safe = inLine(text);
  return style === undefined || !isColored ? safe : `\u001b[${CODES[style]}m${safe}\u001b[0m`;
};

const inLine = (text: string): string => escaped(text).replaceAll('\n', '\\n');

const ONE_CELL_EACH = /^[ -~]*$/;
const NO_CELL = /^[\p{Mn}\p{Me}\p{Cf}]$/u;
const TWO_CELLS =
  /^[\u1100-\u115f\u2e80-\u303e\u3041-\ua4cf\uac00-\ud7a3\uf900-\ufaff\ufe30-\ufe6f\uff00-\uff60\uffe0-\uffe6\u{1f300}-\u{1f64f}\u{1f680}-\u{1f6ff}\u{1f900}-\u{1f9ff}\u{20000}-\u{3fffd}]$/u;

/** How many cells of a terminal the text takes, as most terminals have it. */
function widthOf(text: string): number {
  if (ONE_CELL_EACH.test(text)) return text.length;
  let width = 0;
  for (const one of text) width += NO_CELL.test(one) ? 0 : TWO_CELLS.test(one) ? 2 : 1;
  return width;
}
const padded = (text: string, width: number): string => text + ' '.repeat(Math.max(width - widthOf(text), 0));

const GAP = 2;
const INDENT = '  ';

/**
 * A table with a head. Each column is as wide as its longest cell. What does not fit beside the first columns stands
 * below them, indented; `columns` is the width that there is.
 */
export function tableLines(
  head: readonly string[],
  rows: readonly (readonly Cell[])[],
  columns: number,
): Line[] {
  const all: Piece[][] = [
    head.map((text): Piece => ({ text, style: 'dim' })),
    ...rows.map(row => row.map((cell): Piece => safeCell(cell))),
  ];
  const widths = head.map((_, i) =>
    all.reduce((most, row) => Math.max(most, widthOf(row[i]?.text ?? '')), 0),
  );
  let width = 0;
  let beside = 0;
  for (; beside < head.length; beside++) {
    width += (beside === 0 ? 0 : GAP) + (widths[beside] ?? 0);
    if (beside > 0 && width > columns) break;
  }
  return all.flatMap(row => [
    trimmed(
      row.slice(0, beside).map(({ text, style }, i) => ({ text: padded(text, widths[i] ?? 0), style })),
    ),
    ...(beside === head.length ? [] : wrapped(listed(row.slice(beside)), columns, INDENT)),
  ]);
}
const safeCell = (cell: Cell): Piece =>
  typeof cell === 'string' ? { text: inLine(cell) } : { ...cell, text: inLine(cell.text) };

const listed = (cells: readonly Piece[]): Piece[] =>
  cells.map((cell, i) => (i === cells.length - 1 ? cell : { ...cell, text: `${cell.text},` }));

/** The cells with gaps between them, without blanks at the end. */
function trimmed(cells: readonly Piece[]): Line {
  const line = cells.flatMap((cell, i) => (i === 0 ? [cell] : [{ text: ' '.repeat(GAP) }, cell]));
  while (line.at(-1)?.text.trim() === '') line.pop();
  const last = line.pop();
  return last === undefined ? [] : [...line, { ...last, text: last.text.trimEnd() }];
}

/** The pieces as words, in as many lines as they need. Only a word that is longer than a line is cut. */
export function wrapped(pieces: readonly Piece[], columns: number, indent = ''): Line[] {
  const room = Math.max(columns - indent.length, 1);
  const words = pieces.flatMap(({ text, style }) =>
    inLine(text)
      .split(' ')
      .filter(word => word !== '')
      .flatMap(word => cut(word, room))
      .map((word): Piece => ({ text: word, style })),
  );
  const lines: Piece[][] = [];
  let width = 0;
  for (const word of words) {
    const more = widthOf(word.text);
    if (lines.length === 0 || width + 1 + more > room) {
      lines.push(indent === '' ? [word] : [{ text: indent }, word]);
      width = more;
    } else {
      append(lines.at(-1) ?? [], word);
      width += 1 + more;
    }
  }
  return lines;
}

/** With a blank before it, and in one piece with what has the same style. */
function append(line: Piece[], { text, style }: Piece): void {
  const last = line.at(-1);
  if (last !== undefined && last.style === style)
    line[line.length - 1] = { text: `${last.text} ${text}`, style };
  else line.push({ text: ' ' }, { text, style });
}

function cut(word: string, room: number): string[] {
  if (widthOf(word) <= room) return [word];
  const parts: string[] = [];
  let part = '';
  for (const one of word) {
    if (part !== '' && widthOf(part) + widthOf(one) > room) {
      parts.push(part);
      part = '';
    }
    part += one;
  }
  return [...parts, part];
}
