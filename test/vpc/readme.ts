/** The commands and files of the READMEs, for an installation by the book. */
import * as pages from '../kit/pages.ts';

/** Where the machine has the pages, as packets.vpc.test.ts puts them there. */
export const PAGES_FOLDER = '/vpc/pages';

/** The first block in this language behind a text of a README. */
export const blockBehind = (text: string, language: string): string =>
  pages.blockBehind(pages.readPages(PAGES_FOLDER), text, language);
export { linesOf } from '../kit/pages.ts';
