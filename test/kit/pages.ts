/** The pages that people read, and the blocks in them. */
import { readFileSync } from 'node:fs';
import { join } from 'node:path';

export const PAGES = [
  'README.md',
  'src/README.md',
  'src/cli/README.md',
  'src/views/README.md',
  'scripts/README.md',
  'scripts/provision/README.md',
  'drizzle/README.md',
  'test/README.md',
] as const;
export type Page = (typeof PAGES)[number];
export type Texts = ReadonlyMap<Page, string>;

/** The text of each page under the folder. */
export const readPages = (folder: string): Texts =>
  new Map(PAGES.map(page => [page, readFileSync(join(folder, page), 'utf8')]));

/** The blocks of the language in the text, in their order. */
export const blocksIn = (text: string, language: string): string[] =>
  [...text.matchAll(new RegExp(`^\`\`\`${language}\\n(.*?)^\`\`\`$`, 'gms'))].map(([, block = '']) => block);

/** The first block in this language behind a text that only one page has. */
export function blockBehind(pages: Texts, text: string, language: string): string {
  const found = [...pages].filter(([, page]) => page.includes(text));
  const [[name, page] = ['', '']] = found;
  if (found.length !== 1)
    throw new Error(`"${text}" stands in ${found.map(([one]) => one).join(', ') || 'no page'}, not in one`);
  const [block] = blocksIn(page.slice(page.indexOf(text)), language);
  if (block === undefined) throw new Error(`${name} has no block of ${language} behind "${text}"`);
  return block;
}

/** Its lines, those that end in a backslash joined with the next. */
export const linesOf = (block: string): string[] =>
  block
    .replace(/\\\n\s*/g, '')
    .split('\n')
    .filter(Boolean);
