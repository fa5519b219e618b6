/** The README's own commands and files, for an installation by the book. */
import { readFileSync } from 'node:fs';

const README = '/vpc/README.md';

/** The first block in this language behind a text of the README. */
export function blockBehind(text: string, language: string): string {
  const page = readFileSync(README, 'utf8');
  const at = page.indexOf(text);
  const block =
    at < 0 ? undefined : page.slice(at).match(new RegExp(`^\`\`\`${language}\\n(.*?)^\`\`\`$`, 'ms'))?.[1];
  if (block === undefined) throw new Error(`the README has no block of ${language} behind "${text}"`);
  return block;
}

/** Its lines, those that end in a backslash joined with the next. */
export const linesOf = (block: string): string[] =>
  block
    .replace(/\\\n\s*/g, '')
    .split('\n')
    .filter(Boolean);
