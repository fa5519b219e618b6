/** The cells of a map: one stop of the Tab key, moved through with the arrow keys; what is pointed at or focused is
 *  described beside them. */

import type { Cell } from '../../views/shapes.ts';
import { lookOf } from '../cell.ts';

export interface Cells {
  /** Shows the addresses that moved, as far as the page has them. */
  move(moved: readonly Cell[]): void;
  /** Gives each cell the look of that with the same address in a page that was made just now, whose cells these are then:
   *  addresses come to an ENI and leave it. */
  take(newer: ParentNode): void;
}

const cellIn = (target: EventTarget | null): HTMLAnchorElement | null =>
  target instanceof Element ? target.closest<HTMLAnchorElement>('a[data-ip]') : null;

/** `clock`: the ledger's, in milliseconds. */
export function createCells(page: Document, clock: () => number): Cells {
  let all = cellsOf(page);
  let instances = instancesOf(page);
  let shown: HTMLAnchorElement | null = null;

  function show(cell: HTMLAnchorElement): void {
    shown = cell;
    page.querySelector('[data-details]')?.replaceChildren(...describe(page, cell));
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

  /** The cells that stay are the same elements, with what they have shown since the newer page was made. */
  function replaceMap(newer: ParentNode, byAddress: ReadonlyMap<string | undefined, HTMLElement>): void {
    const map = newer.querySelector('[data-map]');
    if (map === null) return;
    const { activeElement } = page;
    const focused = all.find(cell => cell === activeElement);
    for (const cell of all) byAddress.get(cell.dataset.ip)?.replaceWith(cell);
    page.querySelector('[data-map]')?.replaceWith(map);
    all = cellsOf(page);
    const kept = (cell: HTMLAnchorElement | null | undefined) => all.find(one => one === cell);
    const stop = kept(focused) ?? kept(shown) ?? all[0];
    if (stop !== undefined) stopAt(stop);
    const told = kept(shown);
    if (told !== undefined) show(told);
    kept(focused)?.focus({ preventScroll: true });
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
      const fresh = cellsOf(newer);
      const byAddress = new Map(fresh.map(one => [one.dataset.ip, one]));
      instances = instancesOf(newer);
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
      if (fresh.map(addressOf).join() !== all.map(addressOf).join()) replaceMap(newer, byAddress);
    },
  };
}

const cellsOf = (page: ParentNode) => [...page.querySelectorAll<HTMLAnchorElement>('a[data-ip]')];
const addressOf = ({ dataset }: HTMLElement): string => dataset.ip ?? '';

/** By ENI. */
function instancesOf(page: ParentNode): Readonly<Record<string, string | null>> {
  const owner = page.querySelector<HTMLElement>('[data-instances]');
  return JSON.parse(owner?.dataset.instances ?? '{}');
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
