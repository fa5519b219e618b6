/** The command `probe`: tries on an ENI of a real account what is believed of EC2. */
import { existsSync, writeFileSync } from 'node:fs';
import { setTimeout as sleep } from 'node:timers/promises';
import { IpamError } from '../../domain/error.ts';
import { type EniId, parseEniId } from '../../domain/ids.ts';
import type { Pacing } from '../../probe/meter.ts';
import { parseStoreUrl } from '../../store/url.ts';
import { type Command, type Context, command, type Parts } from '../command.ts';
import { STORE_SETTINGS } from '../settings/settings.ts';
import { onOff, text } from '../settings/value-parsers.ts';
import { createProgress } from '../terminal/output.ts';

const FILE = text('FILE', 'the path of a file');
const options = {
  eni: {
    kind: text('ENI', 'an ENI id'),
    fallback: null,
    help: 'an ENI for the probe alone, attached to an instance',
  },
  yes: { kind: onOff, fallback: 'off', help: 'carry the plan out; without it the plan is printed only' },
  prefixes: { kind: onOff, fallback: 'off', help: 'try an IPv4 prefix and an IPv6 prefix too' },
  transcript: { kind: FILE, fallback: 'ec2-ipam-probe.json', help: 'where the transcript goes' },
  journal: {
    kind: FILE,
    fallback: 'ec2-ipam-probe.journal',
    help: 'where each change is noted before it is sent; deleted when the ENI is clean again',
  },
  undo: { kind: FILE, fallback: null, help: 'take off the ENI what the probe of this journal left there' },
} as const;

const HELP = `Asks first what the ENI is, and refuses one that has secondary addresses or prefixes, that a service of AWS manages, or
that is of the ledger. It ends when EC2 has shown twice that the ENI is as before, and writes a transcript with other ids
and addresses, which \`ec2-ipam simulate --check\` compares with the simulator. After a kill use --undo; a call that was
under way then may still be applied: repeat --undo a minute later, and delete the journal when the ENI is clean.

Exit status 0: the plan was printed, or carried out with whatever answers, and the ENI is clean.
`;

/** Tests give a time that passes at once. */
export const probeWith = ({ clock, wait }: Pacing): Command<typeof options> =>
  command({
    name: 'probe',
    summary: 'try what is believed of EC2 on an ENI of a real account, and leave it clean',
    usage: '',
    args: { min: 0, max: 0 },
    settings: STORE_SETTINGS,
    options,
    help: HELP,
    async run(context) {
      const { options: given, io, config, log, assemble } = context;
      const { createMeter } = await import('../../probe/meter.ts');
      const meter = createMeter({ clock, wait });
      if (given.undo !== null) return await undo(context, given.undo, meter, clock);
      if (given.eni === null) throw new IpamError('bad-request', 'probe needs --eni, or --undo');
      const eni = parseEniId(given.eni, '--eni');
      const parts = await assemble(config, log);
      const ledger = await checkLedger(context, parts, eni);
      const { gather } = await import('../../probe/facts.ts');
      const { planOf, tryOut } = await import('../../probe/probe.ts');
      const { planText, outcomeText } = await import('../../probe/report.ts');
      const { reads, verbatim } = await parts.ec2();
      const facts = await gather(eni, given.prefixes, { reads, verbatim, random: Math.random }, meter);
      const plan = planOf(facts, given.prefixes);
      io.out.write(planText(facts, plan, ledger));
      if (!given.yes) {
        io.out.write('nothing was changed: --yes carries it out\n');
        return 0;
      }
      const { openJournal } = await import('../../probe/journal.ts');
      const { transcriptOf } = await import('../../probe/transcript.ts');
      const journal = openJournal(given.journal);
      const bar = createProgress(io.err, eni, clock);
      const progress = (done: number, total: number) => bar.show('steps', done, total);
      const run = { verbatim, meter, journal, clock, signal: io.signal, progress };
      const outcome = await tryOut(facts, plan, run);
      bar.end();
      journal.close();
      const about = { on: new Date().toISOString().slice(0, 10), region: await reads.region() };
      const { calls, changes } = meter;
      writeFileSync(given.transcript, transcriptOf(facts, outcome, { ...about, calls, changes }));
      io.out.write(`\n${outcomeText(outcome)}`);
      io.out.write(`${calls} calls, ${changes} of them changing; transcript in ${given.transcript}\n`);
      if (outcome.unclean === null && !outcome.inDoubt) {
        journal.remove();
        io.out.write(`${eni} is as before\n`);
        return 0;
      }
      const why = outcome.unclean ?? 'a change had no answer, and may be applied in the next 15 minutes';
      throw new IpamError('unavailable', why, {
        hint: `run \`ec2-ipam probe --undo ${given.journal}\`${outcome.inDoubt ? ' in 16 minutes' : ''}`,
      });
    },
  });

export const probe = probeWith({
  clock: () => performance.now(),
  async wait(ms) {
    await sleep(ms);
  },
});

type ProbeContext = Context<typeof options>;
type Meter = ReturnType<typeof import('../../probe/meter.ts')['createMeter']>;

async function undo(context: ProbeContext, path: string, meter: Meter, clock: () => number): Promise<number> {
  const { readJournal } = await import('../../probe/journal.ts');
  const { cleanUp } = await import('../../probe/probe.ts');
  const { eni, changes } = readJournal(path);
  const { out, signal } = context.io;
  if (eni === null) {
    out.write(`${path} notes no change: nothing is to be undone\n`);
    return 0;
  }
  const parts = await context.assemble(context.config, context.log);
  await checkLedger(context, parts, eni);
  const { verbatim } = await parts.ec2();
  // The journal that is undone names all that may be there.
  const journal = { note: () => {} };
  const unclean = await cleanUp(eni, changes, { verbatim, meter, journal, clock, signal });
  if (unclean !== null) throw new IpamError('unavailable', unclean, { hint: 'run it again' });
  out.write(`${eni} has nothing of the probe; ${path} is no longer needed\n`);
  return 0;
}

/** Returns a line that says which ledger does not have the ENI. Throws conflict when it does. */
async function checkLedger({ config }: ProbeContext, { store }: Parts, eni: EniId): Promise<string> {
  const spec = parseStoreUrl(config.store);
  if (spec.kind === 'sqlite' && (spec.path === null || !existsSync(spec.path)))
    return `no ledger was asked, since there is none at ${spec.path}: --store names another`;
  try {
    const outdated = await store.outdated();
    if (outdated !== null) throw new IpamError('unavailable', outdated);
    if ((await store.eni(eni))?.ours)
      throw new IpamError('conflict', `${eni} is of the ledger: nothing was changed`, {
        hint: 'make an ENI for the probe alone, and attach it to an instance',
      });
    return 'the ledger was asked, and the ENI is not its own';
  } finally {
    await store.close();
  }
}
