/** Looks for a shorter history that breaks the same rule, by leaving out operations of the plan. */

/** Histories tried for one failure. */
const TRIES_MAX = 300;

/** `stillFails` says whether a history of these operations breaks the rule. Tries halves first, then ever
 *  smaller parts, and ends when no single one can be left out or after `triesMax` tries. */
export async function shrink(
  length: number,
  stillFails: (kept: readonly number[]) => Promise<boolean>,
  triesMax = TRIES_MAX,
): Promise<number[]> {
  let kept = Array.from({ length }, (_, index) => index);
  let tries = 0;
  for (let part = Math.ceil(length / 2); part >= 1; part = part === 1 ? 0 : Math.ceil(part / 2)) {
    let shorter = true;
    while (shorter) {
      shorter = false;
      for (let from = 0; from < kept.length && tries < triesMax; tries++) {
        const without = kept.toSpliced(from, part);
        if (await stillFails(without)) {
          kept = without;
          shorter = true;
        } else from += part;
      }
      if (part > 1) break;
    }
  }
  return kept;
}
