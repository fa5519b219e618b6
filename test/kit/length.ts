/** How long the tests run. `npm test` alone is short; what is named on its command line, a file run without it, and
 *  everything where `CI` is `true`, is at full length. */
import process from 'node:process';

const isShort = process.env.TEST_LENGTH === 'short';
const said = new Set<string>();

/** Returns the value for this run's length. A short run says what it leaves out; scripts/test.ts repeats that at its
 *  end. */
export function byLength<T>(options: { full: T; short: T; leftOut: string }): T {
  if (!isShort) return options.full;
  if (!said.has(options.leftOut)) console.log(`left out: ${options.leftOut}`);
  said.add(options.leftOut);
  return options.short;
}
