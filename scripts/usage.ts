/** The command line of a script. */
import process from 'node:process';

/** Wrong options, in one line. */
export class WrongUsage extends Error {}

/** Runs a script with the words of its command line, and returns its exit status. `--help` prints how it is used; so do
 *  wrong options, and the status is 2. */
export async function runScript(usage: string, main: (words: string[]) => Promise<number>): Promise<number> {
  const words = process.argv.slice(2);
  if (words.includes('--help')) {
    console.log(usage);
    return 0;
  }
  try {
    return await main(words);
  } catch (error) {
    if (!(error instanceof WrongUsage || isOfParseArgs(error))) throw error;
    console.error(`${error.message}\n${usage}`);
    return 2;
  }
}

const isOfParseArgs = (error: unknown): error is Error =>
  error instanceof Error && 'code' in error && String(error.code).startsWith('ERR_PARSE_ARGS');
