// Goal: a holder is given up on proof and on nothing less. Method: ENIs that vanish, come off and move, reads that
// fail and reads that leave out, and passes of the reconciler minutes apart.
import type { Ipv4 } from '../../../src/domain/address.ts';
import { LATE_READS_MS } from '../../../src/domain/allocation.ts';
import {
  type Attachments,
  attachmentsAfter,
  CLAIMS_MARGIN_MS,
  CLOCK_STEPS_BACK_MS_MAX,
  STANDS_FOR_MS,
} from '../../../src/domain/eni-departure.ts';
import { takeOver } from '../../../src/ipam/ec2/recover.ts';
import { survey } from '../../../src/ipam/ec2/survey.ts';
import { createEvidence, endHoldersBefore } from '../../../src/ipam/sync/holders.ts';
import { reconcile } from '../../../src/ipam/sync/reconcile.ts';
import { createMemoryStore } from '../../../src/store/memory.ts';
import { assert, suite } from '../../kit/uvu.ts';
import { DESCRIBE, ENI_A, ENI_B, LARGE, ROOMY, SUBNET } from '../../kit/vpcs.ts';
import { POLICY, type World, world } from '../../kit/world.ts';

const MINUTE_MS = 60_000;

/** A world in which ENI A has three holders, and passes of one server's reconciler over it. */
async function held(aheadMs = 0) {
  const clock = { aheadMs };
  const store = (now: () => number) => createMemoryStore({ clock: () => now() + clock.aheadMs });
  const w = world({ vpc: ROOMY, store });
  await w.enis.adopt(ENI_B);
  for (const holder of ['web', 'db', 'cache']) await w.request(ENI_A, { holder });
  w.time.now += 10 * MINUTE_MS;
  const proof = createEvidence(w.context);
  const pass = () => reconcile(w.context, w.enis, proof, SUBNET);
  const passAfter = (ms: number) => {
    w.time.now += ms;
    return pass();
  };
  /** So many passes so far apart. */
  const passes = async (count: number, apartMs: number) => {
    for (let i = 0; i < count; i++) await passAfter(i === 0 ? 0 : apartMs);
  };
  return { w, clock, pass, passAfter, passes, holders: () => w.ipsWith('allocated') };
}

const proof = suite('evidence');

proof('an ENI that is gone, twice ten minutes apart, ends its holders', async () => {
  const { w, pass, passAfter, holders } = await held();
  w.detach(ENI_A);
  w.vpc.network.deleteEni(ENI_A);
  await pass();
  await passAfter(STANDS_FOR_MS.gone - 1);
  assert.is((await holders()).length, 3, 'not a moment before');
  await passAfter(1);
  assert.equal(await holders(), []);
  w.time.now += POLICY.graceMs;
  assert.ok((await takeOver(w.context)) >= 3, 'and EC2 confirms by the absence of the ENI that they are off');
  assert.equal(await w.ipsWith('unassigning'), []);
});

proof('a detached ENI, twice five minutes apart, ends its holders, whose addresses stay on it', async () => {
  const { w, pass, passAfter, holders } = await held();
  w.detach(ENI_A);
  await pass();
  await passAfter(STANDS_FOR_MS.detached - 1);
  assert.is((await holders()).length, 3);
  const [ip] = (await w.ipsWith('allocated')) as Ipv4[];
  await passAfter(1);
  assert.equal(await holders(), []);
  assert.is((await w.ipsWith('ready')).length, 9);
  assert.ok(ip);
  assert.is((await w.store.history(SUBNET, ip, 1)).rows[0]?.endedBy, 'reconcile');
});

/** The same, whose ENI is read while it has its holders, long after they came. */
async function seenLater(aheadMs = 0) {
  const parts = await held(aheadMs);
  await parts.passAfter(CLOCK_STEPS_BACK_MS_MAX + MINUTE_MS);
  parts.w.time.now += MINUTE_MS;
  return parts;
}

proof('an ENI attached anew ends those who held before, and not those who hold since', async () => {
  const { w, passAfter, holders } = await seenLater();
  w.reattach(ENI_A, 'i-0b');
  const since = await w.request(ENI_A, { holder: 'new' });
  await passAfter(MINUTE_MS);
  await passAfter(STANDS_FOR_MS['attached anew'] - 1);
  assert.is((await holders()).length, 4, 'not a moment before');
  await passAfter(1);
  assert.equal(await holders(), [since.ip]);
});

for (const apartMs of [-3_600_000, -90_000, 90_000, 3_600_000])
  proof(`an ENI attached anew, the ledger's clock ${apartMs / 1000} s from EC2's: the same`, async () => {
    const { w, passes, holders } = await seenLater(apartMs);
    w.reattach(ENI_A, 'i-0b');
    const since = await w.request(ENI_A, { holder: 'new' });
    w.time.now += STANDS_FOR_MS['attached anew'];
    await passes(3, STANDS_FOR_MS['attached anew']);
    assert.equal(await holders(), [since.ip]);
  });

proof("a clock of the ledger's that steps back after the move gives up nobody who lives", async () => {
  const { w, passes, holders, clock } = await seenLater();
  w.reattach(ENI_A, 'i-0b');
  clock.aheadMs = -240_000;
  const since = await w.request(ENI_A, { holder: 'new' });
  await passes(3, STANDS_FOR_MS['attached anew']);
  assert.equal(await holders(), [since.ip]);
});

proof("a clock of the ledger's that steps forward between two reads proves nothing", async () => {
  for (const leave of [
    (w: World) => w.detach(ENI_A),
    (w: World) => {
      w.detach(ENI_A);
      w.vpc.network.deleteEni(ENI_A);
    },
  ]) {
    const { w, pass, passAfter, holders, clock } = await held();
    leave(w);
    await pass();
    clock.aheadMs = STANDS_FOR_MS.gone;
    await passAfter(MINUTE_MS);
    assert.is((await holders()).length, 3);
    clock.aheadMs = 0;
    await passAfter(STANDS_FOR_MS.gone - MINUTE_MS);
    assert.is((await holders()).length, 0);
  }
});

proof('who claims after the first read that showed the end holds on', async () => {
  const { w, pass, passAfter, holders } = await held();
  const [ip = ''] = await holders();
  w.detach(ENI_A);
  await pass();
  await w.release(ENI_A, ip);
  w.time.now += MINUTE_MS;
  await w.request(ENI_A, { named: ip, holder: 'next' });
  await passAfter(STANDS_FOR_MS.detached);
  assert.equal(await holders(), [ip]);
});

proof('of an ENI that was never read while it was attached before nobody is given up', async () => {
  const { w, passes, holders } = await held();
  await w.store.saveEnis((await w.store.enis()).map(eni => ({ ...eni, attachmentSeenAt: null })));
  w.reattach(ENI_A, 'i-0b');
  await passes(3, STANDS_FOR_MS['attached anew']);
  assert.is((await holders()).length, 3);
});

proof('detached and back between two reads proves nothing of what is detached', async () => {
  const { w, pass, passAfter, holders } = await held();
  w.detach(ENI_A);
  await pass();
  w.time.now += STANDS_FOR_MS.detached / 2;
  w.attach(ENI_A, 'i-0a');
  await pass();
  await passAfter(STANDS_FOR_MS.detached / 2);
  assert.is((await holders()).length, 3);
});

proof('an attachment between two reads begins the time of a detached one anew', async () => {
  const { w, holders } = await held();
  const weighing = createEvidence(w.context);
  const { rows } = await w.store.withStatus(SUBNET, ['allocated']);
  const shown = await w.context.cloud.eni(ENI_A);
  const detached = new Map([
    [ENI_A, { ...shown, attachment: null, instance: null, attachedAt: null, attachedForMs: null }],
  ]);
  await weighing.weigh(rows, detached, w.time.now);
  await weighing.weigh(rows, new Map([[ENI_A, shown]]), w.time.now + MINUTE_MS);
  await weighing.weigh(rows, detached, w.time.now + STANDS_FOR_MS.detached);
  assert.is((await holders()).length, 3);
});

proof('absence from the list of the subnet proves nothing', async () => {
  const { w, holders } = await held();
  const { cloud } = w.context;
  const blind = {
    ...w.context,
    cloud: {
      ...cloud,
      async *enis(subnet: typeof SUBNET) {
        for await (const page of cloud.enis(subnet)) yield page.filter(eni => eni.id !== ENI_A);
      },
    },
  };
  const weighing = createEvidence(blind);
  for (let i = 0; i < 5; i++) {
    await reconcile(blind, w.enis, weighing, SUBNET);
    w.time.now += STANDS_FOR_MS.gone;
  }
  assert.is((await holders()).length, 3);
});

proof('an EC2 that does not answer proves nothing', async () => {
  const { w, pass, holders } = await held();
  w.vpc.faults.add({ kind: 'throttle', action: DESCRIBE });
  for (let i = 0; i < 3; i++) {
    await pass().catch(() => {});
    w.time.now += STANDS_FOR_MS.gone;
  }
  assert.is((await holders()).length, 3);
});

proof('a server that has just begun sees for itself first', async () => {
  const { w, holders } = await held();
  w.detach(ENI_A);
  for (let i = 0; i < 3; i++) {
    await reconcile(w.context, w.enis, createEvidence(w.context), SUBNET);
    w.time.now += STANDS_FOR_MS.detached;
  }
  assert.is((await holders()).length, 3);
});

proof('one pass gives up ten at the most', async () => {
  const w = world({ vpc: LARGE });
  await w.requests(ENI_A, 14);
  w.time.now += 10 * MINUTE_MS;
  const weighing = createEvidence(w.context);
  w.detach(ENI_A);
  await reconcile(w.context, w.enis, weighing, SUBNET);
  w.time.now += STANDS_FOR_MS.detached;
  await reconcile(w.context, w.enis, weighing, SUBNET);
  assert.is((await w.ipsWith('allocated')).length, 4);
  await reconcile(w.context, w.enis, weighing, SUBNET);
  assert.is((await w.ipsWith('allocated')).length, 0);
});

proof('a holder that changed since it was read is let be', async () => {
  const { w, holders } = await held();
  const [ip = ''] = await holders();
  const row = await w.rowOf(ip);
  const weighing = createEvidence(w.context);
  w.detach(ENI_A);
  const seen = new Map([[ENI_A, await w.context.cloud.eni(ENI_A)]]);
  await weighing.weigh([row], seen, w.time.now);
  w.time.now += STANDS_FOR_MS.detached;
  await w.store.move([{ row, move: 'missed' }]);
  await weighing.weigh([row], seen, w.time.now);
  assert.is(await w.statusOf(ip), 'allocated');
});

const boot = suite('boot');

boot('a ledger of an earlier boot of its host gives all holders up, once', async () => {
  const { w, holders } = await held();
  assert.is(await endHoldersBefore(w.context, 'boot-1'), 0, 'nothing is known of an earlier boot');
  assert.is((await holders()).length, 3);
  assert.is(await endHoldersBefore(w.context, 'boot-1'), 0);
  assert.is(await endHoldersBefore(w.context, 'boot-2'), 3);
  assert.equal(await holders(), []);
  await w.request(ENI_A);
  assert.is(await endHoldersBefore(w.context, 'boot-2'), 0);
  assert.is((await holders()).length, 1);
});

const attachments = suite('attachments');
const T = 1_000_000_000;
const LATE = LATE_READS_MS;
const BACK = CLOCK_STEPS_BACK_MS_MAX;
const at = (
  attachment: string | null,
  attachmentSeenAt: number | null,
  earlierAttachment: string | null = null,
  claimsEndBefore: number | null = null,
): Attachments => ({ attachment, attachmentSeenAt, earlierAttachment, claimsEndBefore });
const steps: [what: string, known: Attachments, shown: string | null, after: Attachments | null][] = [
  ['the same again', at('b', 5, 'a', 3), 'b', at('b', T, 'a', 3)],
  ['another one', at('a', 5), 'b', at('b', T, 'a', 5 - BACK)],
  ['another one, of which was not noted when it was seen', at('a', null), 'b', at('b', T, 'a', null)],
  ['the first', at(null, 5), 'a', at('a', T)],
  ['none any more', at('a', 5), null, at(null, T, 'a', 5)],
  ['still none', at(null, 5, 'a', 3), null, at(null, T, 'a', 3)],
  ['another one after none', at(null, 7, 'a', 5), 'b', at('b', T, 'a', 5 - BACK)],
  ['the earlier one, late', at('b', T - LATE + 1, 'a', 5), 'a', null],
  ['the earlier one, with nothing known of the present one', at('b', null, 'a', 5), 'a', null],
  [
    'the earlier one for longer than reads are late',
    at('b', T - LATE, 'a', 5),
    'a',
    at('a', T, 'b', T - LATE - BACK),
  ],
  ['the earlier one after none: one of the two was late', at(null, 7, 'a', 5), 'a', at('a', T)],
];
for (const [what, known, shown, after] of steps)
  attachments(what, () =>
    assert.equal(attachmentsAfter(known, { attachment: shown, attachedForMs: 0 }, T), after),
  );

const claims: [what: string, known: Attachments, attachedForMs: number | null, before: number][] = [
  ['what is older than the last read of the one before', at('a', T - 60_000), 10_000, T - 60_000 - BACK],
  ['no more than that although it was read late', at('a', T - 5_000), 40_000, T - 45_000 - BACK],
  ['no more although the clock was set back meanwhile', at('a', T + 300_000), 40_000, T - 45_000 - BACK],
  ['after none, the same', at(null, T - 1_000, 'a', T - 5_000), 40_000, T - 45_000 - BACK],
  ['where EC2 does not say since when it is attached, with a margin', at('a', T), null, T - CLAIMS_MARGIN_MS],
];
for (const [what, known, attachedForMs, before] of claims)
  attachments(`claims that end: ${what}`, () =>
    assert.is(attachmentsAfter(known, { attachment: 'b', attachedForMs }, T)?.claimsEndBefore, before),
  );

attachments('a survey and a refresh leave them as they are known', async () => {
  const { w, passAfter } = await held();
  w.reattach(ENI_A, 'i-0b');
  await passAfter(MINUTE_MS);
  const known = await w.store.eni(ENI_A);
  assert.type(known?.claimsEndBefore, 'number');
  await survey(w.context, SUBNET);
  await w.enis.refresh(ENI_A);
  const now = await w.store.eni(ENI_A);
  assert.equal({ ...now, addressLimit: null }, { ...known, addressLimit: null });
});

attachments('a late read brings back neither an attachment that is over nor its instance', async () => {
  const { w, pass } = await held();
  await pass();
  w.time.now += MINUTE_MS;
  w.reattach(ENI_A, 'i-0b');
  await pass();
  const known = await w.store.eni(ENI_A);
  assert.is(known?.instance, 'i-0b');
  w.time.now += 10_000;
  w.vpc.faults.add({ kind: 'readLag', ms: 30_000, action: DESCRIBE });
  await pass();
  await survey(w.context, SUBNET);
  await w.enis.refresh(ENI_A);
  assert.equal(await w.store.eni(ENI_A), known);
});

for (const s of [proof, attachments, boot]) s.run();
