/** Rendering of what has many parts, a few at a time, so that a page never holds up the requests of Docker. */
import { raw } from 'hono/html';
import type { JSX } from 'hono/jsx/jsx-runtime';
import { nextTurn } from '../store/next-turn.ts';

interface PortionsOptions<T> {
  readonly items: readonly T[];
  /** So many are rendered in one turn of the event loop. */
  readonly size: number;
  readonly show: (item: T) => JSX.Element;
}

export function Portions<T>(options: PortionsOptions<T>) {
  const rendered = render(options);
  // Where another part of the page has failed, nobody waits for this one.
  rendered.catch(() => {});
  return rendered;
}

async function render<T>({ items, size, show }: PortionsOptions<T>) {
  const texts: string[] = [];
  for (let at = 0; at < items.length; at += size) {
    await nextTurn();
    for (const item of items.slice(at, at + size)) texts.push(String(await show(item)));
  }
  return raw(texts.join(''));
}
