/** The journal of a probe: each change is in a file before it is sent, so that a run that was killed can be undone. */
import { closeSync, fsyncSync, openSync, readFileSync, rmSync, writeSync } from 'node:fs';
import * as v from 'valibot';
import { CARRIED_KINDS, type Change } from '../cloud/verbatim.ts';
import { IpamError } from '../domain/error.ts';
import { type EniId, parseEniId } from '../domain/ids.ts';

export interface Journal {
  /** Notes a change that is about to be sent. Returns when it is on the disk. */
  note(change: Change): void;
}

const Entry = v.object({
  verb: v.picklist(['assign', 'unassign']),
  kind: v.picklist(CARRIED_KINDS),
  eni: v.string(),
  names: v.array(v.string()),
});

/** Makes the file, which must not be there yet: it may be all that is known of an earlier run. */
export function openJournal(path: string): Journal & { close(): void; remove(): void } {
  let file: number;
  try {
    file = openSync(path, 'wx', 0o600);
  } catch (error) {
    const { code, message } = error as NodeJS.ErrnoException;
    throw code === 'EEXIST'
      ? new IpamError('conflict', `the journal ${path} of an earlier probe is there`, {
          hint: `run \`ec2-ipam probe --undo ${path}\`, and delete it`,
        })
      : new IpamError('bad-request', `the journal ${path} cannot be written: ${message}`);
  }
  return {
    note(change) {
      writeSync(file, `${JSON.stringify(change)}\n`);
      fsyncSync(file);
    },
    close: () => closeSync(file),
    remove: () => rmSync(path),
  };
}

/** Returns the changes of a journal, all of one ENI. The last line may have been cut short: then its change was not sent. */
export function readJournal(path: string): { eni: EniId | null; changes: Change[] } {
  let text: string;
  try {
    text = readFileSync(path, 'utf8');
  } catch (error) {
    throw new IpamError('bad-request', `the journal ${path} cannot be read: ${(error as Error).message}`);
  }
  const lines = text.split('\n').slice(0, -1);
  const changes = lines.map((line, index): Change => {
    try {
      const entry = v.parse(Entry, JSON.parse(line));
      return { ...entry, eni: parseEniId(entry.eni) };
    } catch {
      throw new IpamError('bad-request', `line ${index + 1} of ${path} is not of a probe's journal`);
    }
  });
  const [first] = changes;
  if (changes.some(({ eni }) => eni !== first?.eni))
    throw new IpamError('bad-request', `${path} names more than one ENI`);
  return { eni: first?.eni ?? null, changes };
}
