/** The cells of a map: one stop of the Tab key, moved through with the arrow keys; what is pointed at or focused is
 *  described beside them. */

import type { Cell } from '../../views/shapes.ts';
import { lookOf } from '../cell.ts';

export interface Cells {
  /** Shows the addresses that moved, as far as the page has them. */
  move(moved: readonly Cell[]): void;
  /** Gives each cell the look of that with the same address in a page that was made just now. */
  take(newer: ParentNode): void;
}

const cellIn = (target: EventTarget | null): HTMLAnchorElement | null =>
  target instanceof Element ? target.closest<HTMLAnchorElement>('a[data-ip]') : null;

/** `clock`: the ledger's, in milliseconds. */
export function createCells(page: Document, clock: () => number): Cells {
  const all = [...page.querySelectorAll<HTMLAnchorElement>('a[data-ip]')];
  const details = page.querySelector('[data-details]');
  const owner = page.querySelector<HTMLElement>('[data-instances]');
  /** By ENI. */
  const instances: Readonly<Record<string, string | null>> = JSON.parse(owner?.dataset.instances ?? '{}');
  let shown: HTMLAnchorElement | null = null;

  function show(cell: HTMLAnchorElement): void {
    shown = cell;
    if (details !== null) details.replaceChildren(...describe(page, cell));
  }
  /** Only this cell is reached with the Tab key. */
  function stopAt(cell: HTMLAnchorElement): void {
    for (const one of all) one.tabIndex = one === cell ? 0 : -1;
  }

  const first = all.find(cell => cell.classList.contains('found')) ?? all[0];
  if (first !== undefined) {
    stopAt(first);
    if (first.classList.contains('found')) show(first);
  }
  page.addEventListener('pointerover', ({ target }) => {
    const cell = cellIn(target);
    if (cell !== null) show(cell);
  });
  page.addEventListener('focusin', ({ target }) => {
    const cell = cellIn(target);
    if (cell === null) return;
    stopAt(cell);
    show(cell);
  });
  page.addEventListener('keydown', event => {
    const cell = cellIn(event.target);
    const isPlain = !event.ctrlKey && !event.altKey && !event.metaKey && !event.shiftKey;
    const next = cell === null || !isPlain ? undefined : all[nextIndex(all, all.indexOf(cell), event.key)];
    if (next === undefined) return;
    event.preventDefault();
    next.focus();
  });

  function change(cell: HTMLAnchorElement, look: Shown): void {
    const hasMoved = cell.textContent !== look.sign;
    const isFound = cell.classList.contains('found');
    cell.className = look.classes;
    cell.classList.toggle('found', isFound);
    cell.textContent = look.sign;
    cell.ariaLabel = look.label;
    cell.dataset.facts = look.facts;
    cell.dataset.generation = String(look.generation);
    if (hasMoved) flash(cell);
    if (cell === shown) show(cell);
  }

  return {
    move(moved) {
      for (const one of moved) {
        const cell = all.find(({ dataset }) => dataset.ip === one.address);
        if (cell === undefined || cell.dataset.subnet !== one.subnet || generationOf(cell) >= one.generation)
          continue;
        const look = lookOf(one, clock(), instances[one.eni ?? ''] ?? null);
        change(cell, { ...look, facts: JSON.stringify(look.facts), generation: one.generation });
      }
    },
    take(newer) {
      const byAddress = new Map(
        [...newer.querySelectorAll<HTMLAnchorElement>('a[data-ip]')].map(one => [one.dataset.ip, one]),
      );
      for (const cell of all) {
        const now = byAddress.get(cell.dataset.ip);
        if (now === undefined || generationOf(now) < generationOf(cell) || isSame(cell, now)) continue;
        const { className: classes, textContent: sign, ariaLabel: label, dataset } = now;
        change(cell, {
          sign: sign ?? '',
          classes,
          label: label ?? '',
          facts: dataset.facts ?? '[]',
          generation: generationOf(now),
        });
      }
    },
  };
}

/** How a cell is to look. */
interface Shown {
  readonly sign: string;
  readonly classes: string;
  readonly label: string;
  /** As JSON. */
  readonly facts: string;
  readonly generation: number;
}

const generationOf = ({ dataset }: HTMLElement): number => Number(dataset.generation);

const isSame = (one: HTMLAnchorElement, other: HTMLAnchorElement): boolean =>
  one.dataset.facts === other.dataset.facts && one.dataset.generation === other.dataset.generation;

/** As long as the animation in the stylesheet. */
const FLASH_MS = 1200;

function flash(cell: HTMLElement): void {
  cell.classList.add('changed');
  setTimeout(() => cell.classList.remove('changed'), FLASH_MS);
}

/** How many cells are in a row, which depends on the width of the page. */
function columnsOf(all: readonly HTMLElement[]): number {
  const top = all[0]?.getBoundingClientRect().top;
  const next = all.findIndex(cell => cell.getBoundingClientRect().top !== top);
  return next === -1 ? all.length : next;
}

function nextIndex(all: readonly HTMLElement[], index: number, key: string): number {
  const columns = columnsOf(all);
  const start = index - (index % columns);
  const steps: Readonly<Record<string, number>> = {
    ArrowLeft: index - 1,
    ArrowRight: index + 1,
    ArrowUp: index - columns,
    ArrowDown: index + columns,
    Home: start,
    End: Math.min(start + columns, all.length) - 1,
  };
  return steps[key] ?? -1;
}

/** Names come from outside: they are text here, never markup. */
function describe(page: Document, cell: HTMLAnchorElement): Node[] {
  const make = <K extends keyof HTMLElementTagNameMap>(tag: K, text: string): HTMLElementTagNameMap[K] =>
    Object.assign(page.createElement(tag), { textContent: text });
  const list = page.createElement('dl');
  const facts: [string, string][] = JSON.parse(cell.dataset.facts ?? '[]');
  list.append(...facts.flatMap(([name, value]) => [make('dt', name), make('dd', value)]));
  const link = Object.assign(make('a', 'History of this address'), { href: cell.href });
  const last = page.createElement('p');
  last.append(link);
  return [make('h2', cell.dataset.ip ?? ''), list, last];
}
