/** What the doctor finds: one line that says what is so, and one that says what to do about it. */
import { cleaned, masked } from '../domain/text.ts';

/** `broken`: something will not work. */
export type State = 'ok' | 'warning' | 'broken' | 'not checked';

export interface Verdict {
  readonly state: State;
  readonly what: string;
  /** Null: nothing is to be done. */
  readonly fix: string | null;
}
export interface Finding extends Verdict {
  /** What was checked, with the interface or the like where there are several. */
  readonly check: string;
}

/** Where the README puts it. */
export const MKNET = '/opt/ec2-ipam/mknet.sh';

const LINE_CHARACTERS_MAX = 400;

/** The texts hold what Docker, files and EC2 say. */
const line = (text: string): string => cleaned(masked(text), LINE_CHARACTERS_MAX).replace(/\s+/g, ' ').trim();

const verdict =
  (state: State) =>
  (what: string, fix: string | null = null): Verdict => ({
    state,
    what: line(what),
    fix: fix === null ? null : line(fix),
  });

export const ok = (what: string): Verdict => verdict('ok')(what);
export const warning: (what: string, fix: string) => Verdict = verdict('warning');
export const broken: (what: string, fix: string) => Verdict = verdict('broken');
/** `what`: why it was not checked. */
export const notChecked: (what: string, fix?: string) => Verdict = verdict('not checked');

export const named = (check: string, verdicts: readonly Verdict[]): Finding[] =>
  verdicts.map(one => ({ check: line(check), ...one }));
