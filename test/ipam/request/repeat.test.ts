// Goal: a call that an agent repeats, at any server and at any time, is made once. Method: servers on one ledger, each
// with a memory of its own, and steps of the store that are held back or change rows in between.
import type { Ipv4 } from '../../../src/domain/address.ts';
import type { InstanceId } from '../../../src/domain/ids.ts';
import { ANYBODY, type Origin } from '../../../src/domain/origin.ts';
import { assert, suite } from '../../kit/uvu.ts';
import { ASSIGN, ENI_A, ENI_B, ROOMY } from '../../kit/vpcs.ts';
import { failure, NOT_WARM, POLICY, pooled, storeAway, type World } from '../../kit/world.ts';

const by = (id: string, sentMsAgo = 0): { from: Origin } => ({
  from: { ...ANYBODY, id, sentMsAgo, givenTo: null },
});
const here = { isLate: () => false };
const release = (w: World, ip: string, of: { from: Origin }, client = here): Promise<boolean> =>
  w.allocator.release({ eni: ENI_A, range: null }, ip as Ipv4, undefined, { ...client, ...of });

const requests = suite('a repeated request');

requests('at another server: has the same address, one move later', async () => {
  const w = await pooled({ vpc: ROOMY });
  const first = await w.request(ENI_A, by('r-1'));
  const again = await w.another().request(ENI_A, by('r-1', 500));
  assert.equal([again.ip, again.generation], [first.ip, first.generation + 1]);
  assert.is(again.movedAt, first.movedAt);
  assert.is((await w.ipsWith('allocated')).length, 1);
});

requests('with nothing ready: makes no EC2 call, also where the ENI is full', async () => {
  const w = await pooled({ policy: NOT_WARM });
  const { ip } = await w.request(ENI_A, by('r-1'));
  const calls = w.callsOf(ASSIGN);
  assert.is((await w.another().request(ENI_A, by('r-1'))).ip, ip);
  assert.is(w.callsOf(ASSIGN), calls);
});

requests('that finds the ENI full: has what another server gave it meanwhile', async () => {
  const w = await pooled({ policy: NOT_WARM });
  const { ip } = await w.request(ENI_A, by('r-1'));
  await failure(Promise.all(Array.from({ length: 20 }, () => w.request(ENI_A))));
  const late = w.another();
  let looks = 0;
  late.intercept(
    'withRequest',
    real => async id => (looks++ === 0 ? { now: w.time.now, rows: [] } : await real(id)),
  );
  assert.is((await late.request(ENI_A, by('r-1'))).ip, ip);
  assert.is((await failure(late.request(ENI_A, by('r-2')))).code, 'exhausted');
});

requests('that names its address: has it', async () => {
  const w = await pooled({ vpc: ROOMY });
  const { ip } = await w.request(ENI_A, { named: '10.0.1.77', ...by('r-1') });
  assert.is((await w.another().request(ENI_A, { named: ip, ...by('r-1') })).ip, ip);
  assert.match((await failure(w.request(ENI_A, { named: ip, ...by('r-2') }))).line, /is held by/);
});

requests('of something else under the same id: is refused, and nothing changes', async () => {
  const w = await pooled({ vpc: ROOMY });
  const { ip } = await w.request(ENI_A, by('r-1'));
  const before = await w.rowOf(ip);
  for (const [eni, more] of [
    [ENI_B, {}],
    [ENI_A, { named: '10.0.1.77' }],
    [ENI_A, { range: '10.0.1.128/25' }],
  ] as const)
    assert.match(
      (await failure(w.request(eni, { ...more, ...by('r-1') }))).line,
      /another request has the same id/,
    );
  assert.equal(await w.rowOf(ip), before);
  assert.equal(await w.ipsWith('allocated'), [ip]);
});

requests('of another instance under the same id: is refused', async () => {
  const w = await pooled({ vpc: ROOMY });
  const from = (instance: string) => ({
    from: { instance: instance as InstanceId, id: 'r-1', sentMsAgo: 0, givenTo: null },
  });
  await w.request(ENI_A, from('i-0a'));
  w.reattach(ENI_A, 'i-0b');
  assert.match((await failure(w.request(ENI_A, from('i-0b')))).line, /another request has the same id/);
});

requests('after its address was released: is refused, and takes no other', async () => {
  const w = await pooled({ vpc: ROOMY });
  const { ip } = await w.request(ENI_A, by('r-1'));
  await w.release(ENI_A, ip);
  w.time.now += POLICY.cooldownMs; // it is the first to be given again
  for (const more of [{}, { named: ip }])
    assert.match(
      (await failure(w.another().request(ENI_A, { ...more, ...by('r-1', 500) }))).line,
      new RegExp(`^this request was given ${ip} before, and that has been released`),
    );
  assert.equal(await w.ipsWith('allocated'), []);
});

requests('after the rollback of the first answer: is served as a new one', async () => {
  const w = await pooled({ vpc: ROOMY });
  const row = await w.request(ENI_A, by('r-1'));
  await w.allocator.undo(row);
  assert.is((await w.rowOf(row.ip)).requestId, null);
  const again = await w.another().request(ENI_A, by('r-1', 500));
  assert.is(again.requestId, 'r-1');
  assert.is((await w.ipsWith('allocated')).length, 1);
});

requests('after such a rollback of an address that was missing: is served as a new one', async () => {
  const w = await pooled({ vpc: ROOMY });
  const row = await w.request(ENI_A, by('r-1'));
  await w.store.move([{ row, move: 'missed' }]);
  await w.allocator.undo(row);
  assert.is(await w.statusOf(row.ip), 'unassigning');
  const again = await w.another().request(ENI_A, by('r-1', 500));
  assert.equal(await w.ipsWith('allocated'), [again.ip]);
});

requests('before the rollback of the first answer: keeps its address', async () => {
  const w = await pooled({ vpc: ROOMY });
  const row = await w.request(ENI_A, by('r-1'));
  const again = await w.another().request(ENI_A, by('r-1', 500));
  await w.allocator.undo(row);
  assert.equal(await w.rowOf(row.ip), again);
  assert.ok(w.rollbacks.isEmpty);
});

requests('while the rollback changes the row: has one address in the end', async () => {
  const w = await pooled({ vpc: ROOMY });
  const row = await w.request(ENI_A, by('r-1'));
  const other = w.another();
  const back = w.intercept('move', move => async changes => {
    if (changes[0]?.move === 'repeat') {
      back();
      await w.allocator.undo(row);
    }
    return await move(changes);
  });
  const again = await other.request(ENI_A, by('r-1', 500));
  assert.equal(await w.ipsWith('allocated'), [again.ip]);
});

requests('a request without an id: has an address of its own, whatever rows have ids', async () => {
  const w = await pooled({ vpc: ROOMY });
  const first = await w.request(ENI_A, by('r-1'));
  assert.is.not((await w.request(ENI_A)).ip, first.ip);
});

requests(
  'while the ledger is away: is not kept waiting, since its agent can ask another server',
  async () => {
    const w = await pooled({ vpc: ROOMY });
    w.intercept('move', () => storeAway);
    const tookMs = await w.tookMs(failure(w.request(ENI_A, by('r-1'))));
    assert.ok(tookMs >= 10_000 && tookMs < 15_000, `${tookMs}`);
    assert.ok((await w.tookMs(failure(w.request(ENI_A)))) > 60_000);
  },
);

requests('older than ids are remembered: is refused', async () => {
  const w = await pooled({ vpc: ROOMY });
  await w.request(ENI_A, by('r-1', 7_200_000));
  assert.match(
    (await failure(w.request(ENI_A, by('r-2', 7_200_001)))).line,
    /older than its id is remembered/,
  );
});
requests.run();

const releases = suite('a repeated release');

/** An address that was given and released by `rel-1`, and given to another container a second later. */
async function givenAnew(): Promise<{ w: World; ip: string }> {
  const w = await pooled({ vpc: ROOMY });
  const { ip } = await w.request(ENI_A, by('r-1'));
  w.time.now += 1_000;
  assert.ok(await release(w, ip, by('rel-1')));
  w.time.now += 1_000;
  assert.is((await w.request(ENI_A, { named: ip, ...by('r-2') })).ip, ip);
  w.time.now += 1_000;
  return { w, ip };
}

releases('at a server that knows nothing, or that gave the address anew: changes nothing', async () => {
  const { w, ip } = await givenAnew();
  for (const server of [w.another(), w])
    for (const age of [0, 1_500, 2_500]) assert.not(await release(server, ip, by('rel-1', age)));
  assert.is((await w.rowOf(ip)).requestId, 'r-2');
});

for (const [who, next] of [
  ['an agent', by('rel-2')],
  ['dockerd itself', { from: ANYBODY }],
] as const)
  releases(`that the row does not know any more, since one of ${who} came: is known by its age`, async () => {
    const { w, ip } = await givenAnew();
    assert.ok(await release(w, ip, next));
    w.time.now += 1_000;
    await w.request(ENI_A, { named: ip, ...by('r-3') });
    w.time.now += 1_000;
    for (const server of [w.another(), w]) assert.not(await release(server, ip, by('rel-1', 4_500)));
    assert.is((await w.rowOf(ip)).requestId, 'r-3');
  });

releases('that is new: ends the holding that it was sent after, at any server', async () => {
  for (const isOther of [true, false]) {
    const { w, ip } = await givenAnew();
    assert.ok(await release(isOther ? w.another() : w, ip, by('rel-2', 500)));
    assert.equal([(await w.rowOf(ip)).status, (await w.rowOf(ip)).releaseId], ['ready', 'rel-2']);
  }
});

releases('whose connection was closed when it was read: is made where its holding is sure only', async () => {
  const { w, ip } = await givenAnew();
  const gone = { isLate: () => true };
  assert.not(await release(w.another(), ip, by('rel-2'), gone));
  assert.is((await w.rowOf(ip)).status, 'allocated');
  assert.ok(await release(w, ip, by('rel-2'), gone));
});

releases('older than ids are remembered: changes nothing', async () => {
  const w = await pooled({ vpc: ROOMY });
  const { ip } = await w.request(ENI_A, by('r-1'));
  w.time.now += 8_000_000;
  assert.not(await release(w, ip, by('rel-1', 7_200_001)));
  assert.ok(await release(w, ip, by('rel-1', 240_000)));
});

releases('after a claim that was rolled back: ends no later holding', async () => {
  const w = await pooled({ vpc: ROOMY, policy: { ...NOT_WARM, cooldownMs: 0 } });
  const other = w.another();
  const { ip } = await w.request(ENI_A);
  assert.is(await release(other, ip, by('s-1')), true);
  const lost = await other.request(ENI_A, { named: ip, ...by('r-2') });
  await other.allocator.undo(lost);
  assert.is(await w.statusOf(ip), 'ready');
  await other.request(ENI_A, { named: ip, ...by('r-3') });
  w.time.now += 10_000;
  await release(w, ip, by('s-1'));
  assert.is(await w.statusOf(ip), 'allocated');
});

releases.run();
