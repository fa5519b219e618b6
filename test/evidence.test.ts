// Goal: a holder is given up on proof and on nothing less. Method: ENIs that vanish, come off and move, reads that
// fail and reads that leave out, and passes of the reconciler minutes apart.
import { CLOCKS_APART_MS, STANDS_FOR_MS } from '../src/domain/evidence.ts';
import { endHoldersBefore } from '../src/ipam/boot.ts';
import { evidence } from '../src/ipam/evidence.ts';
import { reconcile } from '../src/ipam/reconciler.ts';
import { assert, suite } from './uvu.ts';
import { ENI_A, ENI_B, ipsWith, POLICY, ROOMY, request, rowOf, SUBNET, type World, world } from './world.ts';

const MINUTE_MS = 60_000;

/** A world in which ENI A has three holders, and passes of one server's reconciler over it. */
async function held(policy = {}) {
  const w = world({ vpc: ROOMY, policy });
  await w.enis.adopt(ENI_B);
  for (const holder of ['web', 'db', 'cache']) await request(w, ENI_A, { holder });
  w.time.now += 10 * MINUTE_MS;
  const proof = evidence(w.machine);
  return {
    w,
    pass: () => reconcile(w.machine, w.enis, proof, SUBNET),
    holders: () => ipsWith(w, 'allocated'),
  };
}
const detach = ({ vpc }: World) => vpc.network.detach(vpc.network.eni(ENI_A).attachment?.id ?? '');
const attachTo = ({ vpc }: World, instance: string) => vpc.network.attach(ENI_A, instance as never, 2);

const proof = suite('evidence');

proof('an ENI that is gone, twice ten minutes apart, ends its holders', async () => {
  const { w, pass, holders } = await held();
  detach(w);
  w.vpc.network.deleteEni(ENI_A);
  await pass();
  w.time.now += STANDS_FOR_MS.gone - 1;
  await pass();
  assert.is((await holders()).length, 3, 'not a moment before');
  w.time.now += 1;
  await pass();
  assert.equal(await holders(), []);
  w.time.now += POLICY.graceMs;
  const { takeOver } = await import('../src/ipam/intents.ts');
  assert.ok((await takeOver(w.machine)) >= 3, 'and EC2 confirms by the absence of the ENI that they are off');
  assert.equal(await ipsWith(w, 'unassigning'), []);
});

proof('a detached ENI, twice five minutes apart, ends its holders, whose addresses stay on it', async () => {
  const { w, pass, holders } = await held();
  detach(w);
  await pass();
  w.time.now += STANDS_FOR_MS.detached - 1;
  await pass();
  assert.is((await holders()).length, 3);
  w.time.now += 1;
  await pass();
  assert.equal(await holders(), []);
  assert.is((await ipsWith(w, 'ready')).length, 9);
});

proof('an ENI attached anew ends those who held before, and not those who hold since', async () => {
  const { w, pass, holders } = await held();
  detach(w);
  w.time.now += 2 * CLOCKS_APART_MS;
  attachTo(w, 'i-0b');
  const since = await request(w, ENI_A, { holder: 'new' });
  await pass();
  w.time.now += STANDS_FOR_MS['attached anew'];
  await pass();
  assert.equal(await holders(), [since.ip]);
});

proof('detached and back between two reads proves nothing of what is detached', async () => {
  const { w, pass, holders } = await held();
  detach(w);
  await pass();
  w.time.now += STANDS_FOR_MS.detached / 2;
  attachTo(w, 'i-0a');
  await pass();
  w.time.now += STANDS_FOR_MS.detached / 2;
  await pass();
  assert.is((await holders()).length, 3);
});

proof('an attachment of unknown age between two reads begins the time of a detached one anew', async () => {
  const { w, holders } = await held();
  const weighing = evidence(w.machine);
  const { rows } = await w.store.withStatus(SUBNET, ['allocated']);
  const shown = await w.machine.cloud.eni(ENI_A);
  const detached = new Map([[ENI_A, { ...shown, attachment: null, instance: null, attachedAt: null }]]);
  await weighing.weigh(rows, detached, w.time.now);
  await weighing.weigh(rows, new Map([[ENI_A, { ...shown, attachedAt: null }]]), w.time.now + MINUTE_MS);
  await weighing.weigh(rows, detached, w.time.now + STANDS_FOR_MS.detached);
  assert.is((await holders()).length, 3);
});

proof('absence from the list of the subnet proves nothing', async () => {
  const { w, holders } = await held();
  const { cloud } = w.machine;
  const blind = {
    ...w.machine,
    cloud: {
      ...cloud,
      async *enis(subnet: typeof SUBNET) {
        for await (const page of cloud.enis(subnet)) yield page.filter(eni => eni.id !== ENI_A);
      },
    },
  };
  const weighing = evidence(blind);
  for (let i = 0; i < 5; i++) {
    await reconcile(blind, w.enis, weighing, SUBNET);
    w.time.now += STANDS_FOR_MS.gone;
  }
  assert.is((await holders()).length, 3);
});

proof('an EC2 that does not answer proves nothing', async () => {
  const { w, pass, holders } = await held();
  w.vpc.faults.add({ kind: 'throttle', action: 'DescribeNetworkInterfaces' });
  for (let i = 0; i < 3; i++) {
    await pass().catch(() => {});
    w.time.now += STANDS_FOR_MS.gone;
  }
  assert.is((await holders()).length, 3);
});

proof('a server that has just begun sees for itself first', async () => {
  const { w, holders } = await held();
  detach(w);
  for (let i = 0; i < 3; i++) {
    await reconcile(w.machine, w.enis, evidence(w.machine), SUBNET);
    w.time.now += STANDS_FOR_MS.detached;
  }
  assert.is((await holders()).length, 3);
});

proof('one pass gives up ten at the most', async () => {
  const w = world({
    vpc: {
      ...ROOMY,
      instances: [
        { id: 'i-0a', type: 'm5.xlarge' },
        { id: 'i-0b', type: 'm5.large' },
      ],
    },
  });
  for (let i = 0; i < 14; i++) await request(w, ENI_A);
  w.time.now += 10 * MINUTE_MS;
  const weighing = evidence(w.machine);
  detach(w);
  await reconcile(w.machine, w.enis, weighing, SUBNET);
  w.time.now += STANDS_FOR_MS.detached;
  await reconcile(w.machine, w.enis, weighing, SUBNET);
  assert.is((await ipsWith(w, 'allocated')).length, 4);
  await reconcile(w.machine, w.enis, weighing, SUBNET);
  assert.is((await ipsWith(w, 'allocated')).length, 0);
});

proof('a holder that changed since it was read is let be', async () => {
  const { w, holders } = await held();
  const [ip = ''] = await holders();
  const row = await rowOf(w, ip);
  const weighing = evidence(w.machine);
  detach(w);
  const seen = new Map([[ENI_A, await w.machine.cloud.eni(ENI_A)]]);
  await weighing.weigh([row], seen, w.time.now);
  w.time.now += STANDS_FOR_MS.detached;
  await w.store.move([{ row, move: 'missed' }]);
  await weighing.weigh([row], seen, w.time.now);
  assert.is((await rowOf(w, ip)).status, 'allocated');
});

const boot = suite('boot');

boot('a ledger of an earlier boot of its host gives all holders up, once', async () => {
  const { w, holders } = await held();
  assert.is(await endHoldersBefore(w.machine, 'boot-1'), 0, 'nothing is known of an earlier boot');
  assert.is((await holders()).length, 3);
  assert.is(await endHoldersBefore(w.machine, 'boot-1'), 0);
  assert.is(await endHoldersBefore(w.machine, 'boot-2'), 3);
  assert.equal(await holders(), []);
  await request(w, ENI_A);
  assert.is(await endHoldersBefore(w.machine, 'boot-2'), 0);
  assert.is((await holders()).length, 1);
});

for (const s of [proof, boot]) s.run();
