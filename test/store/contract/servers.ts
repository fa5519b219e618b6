/** The contract of a store: subnets, ENIs, servers, leases, permits and facts. */
import { parseCidr } from '../../../src/domain/address.ts';
import { type EniId, parseEniId } from '../../../src/domain/ids.ts';
import { UNANSWERED_MAX_MS } from '../../../src/domain/suspects.ts';
import { type LedgerEni, type PermitQuery, SERVER_KEPT_MS, type Store } from '../../../src/store/store.ts';
import { eniWith, make, makeReady, newRows } from '../../kit/ledger.ts';
import { ENI, OTHER_ENI, range, SUBNET } from '../../kit/rows.ts';
import { assert } from '../../kit/uvu.ts';
import type { Test } from '../store.contract.ts';

const byId = (a: { readonly id: string }, b: { readonly id: string }): number => (a.id < b.id ? -1 : 1);

const eni = (id: EniId, patch: Partial<LedgerEni> = {}) => eniWith({ id, ...patch });
const DETACHED = { instance: null, attachment: null };

export function enis(test: Test): void {
  test('subnets: are saved and refreshed', async ({ store }) => {
    const subnet = { id: SUBNET, vpc: 'vpc-0a', cidr: parseCidr('10.0.1.0/24') };
    await store.saveSubnet({ ...subnet, vpc: 'vpc-0old' });
    await store.saveSubnet(subnet);
    assert.equal(await store.subnets(), [subnet]);
  });

  test('ENIs: are refreshed, but whose they are and what is noted of them stays', async ({ store }) => {
    const other = eni(OTHER_ENI, { ...DETACHED, addressLimit: null });
    await store.saveEnis([]);
    await store.saveEnis([eni(ENI), other]);
    await store.adopt(ENI);
    await store.setReleased(ENI, true);
    const { releasedAt = null } = (await store.eni(ENI)) ?? {};
    assert.is.not(releasedAt, null);
    const anew = eni(ENI, {
      attachment: 'eni-attach-0b',
      attachmentSeenAt: 2_000_000_000_000,
      earlierAttachment: 'eni-attach-0a',
      claimsEndBefore: 1_900_000_000_000,
      tenant: 'red',
      mac: '02:0a:1b:2c:3d:01',
      addressLimit: 50,
      prefixes: 1,
    });
    await store.saveEnis([anew]);
    assert.equal(await store.eni(ENI), { ...anew, ours: true, releasedAt });
    assert.equal(await store.eni(parseEniId('eni-0cc')), null);
    assert.equal((await store.enis()).toSorted(byId)[1], other);
  });

  test('an attachment: when it was seen is noted where the ENI still has it, at once', async ({ store }) => {
    const [moved, unknown] = [parseEniId('eni-0cc'), parseEniId('eni-0dd')];
    const detached = eni(OTHER_ENI, DETACHED);
    await store.saveEnis([eni(ENI), detached, eni(moved)]);
    await store.noteAttachments([], 1);
    const seen = [eni(ENI), detached, eni(moved, { attachment: 'eni-attach-0b' }), eni(unknown)];
    await store.noteAttachments(seen, 2_000_000_000_000);
    await store.noteAttachments([eni(ENI)], 1_900_000_000_000);
    const noted = (await store.enis()).toSorted(byId).map(one => one.attachmentSeenAt);
    const last = 'the last one counts, also where the clock has stepped back';
    assert.equal(noted, [1_900_000_000_000, 2_000_000_000_000, null], last);
    assert.equal(await store.eni(unknown), null);
  });

  test('adopt: does nothing for an ENI that is not there', async ({ store }) => {
    await store.adopt(ENI);
    assert.equal(await store.enis(), []);
  });

  test('released: is noted of an ENI once, until it is used again', async ({ store, advance }) => {
    const releasedAt = async (id: EniId) => (await store.eni(id))?.releasedAt;
    await store.setReleased(ENI, true);
    assert.is(await store.eni(ENI), null, 'no ENI comes of it');
    await store.saveEnis([eni(ENI), eni(OTHER_ENI)]);
    const { now } = await store.get(SUBNET, []);
    await store.setReleased(ENI, true);
    const at = (await releasedAt(ENI)) ?? 0;
    assert.ok(at >= now && at <= (await store.get(SUBNET, [])).now, "by the store's clock");
    advance(1_000);
    await store.setReleased(ENI, true);
    assert.is(await releasedAt(ENI), at, 'it is not noted anew');
    assert.is(await releasedAt(OTHER_ENI), null);
    await store.setReleased(ENI, false);
    assert.is(await releasedAt(ENI), null);
    await store.setReleased(ENI, true);
    assert.ok(((await releasedAt(ENI)) ?? 0) >= at + 1_000);
  });

  test('facts: are noted by name, the last one counts', async ({ store }) => {
    assert.is(await store.fact('boot'), null);
    await store.noteFact('boot', 'one');
    await store.noteFact('other', 'x');
    await store.noteFact('boot', 'two');
    assert.is(await store.fact('boot'), 'two');
  });

  test('facts: of many that note one once, all hear the first one', async ({ store }) => {
    const note = (value: string) => store.noteFactOnce('region', value);
    const heard = await Promise.all(['one', 'two', 'three'].map(note));
    assert.is(new Set(heard).size, 1);
    assert.is(await note('four'), heard[0]);
    assert.is(await store.fact('region'), heard[0] ?? null);
  });

  test('facts: what many add to one at the same time is all counted', async ({ store }) => {
    await Promise.all([1, 2, 3, 400_000].map(more => store.addToFact('ended', more)));
    assert.is(await store.fact('ended'), '400006');
  });
}

export function servers(test: Test): void {
  const noted = async (store: Store) => (await store.servers()).rows.toSorted(byId);
  /** Claims an address as a server does; returns the server's id. */
  const claimedBy = async (store: Store, last: number): Promise<string> => {
    await makeReady(store, last);
    return (await make(store, last, 'claim')).token?.slice(0, 8) ?? '';
  };
  /** Who is noted once another server has begun. */
  const notedOnce = async (store: Store, begins: string, died: string) => {
    await store.beat(begins, false);
    return (await noted(store)).map(({ id }) => (id === died ? 'died' : id)).sort();
  };

  test('a server: is seen from its first beat until it stops, and forgotten later', async ({
    store,
    advance,
  }) => {
    const first = await store.beat('a', false, '1.2.3');
    advance(5_000);
    await store.beat('b', false);
    const now = await store.beat('a', true, '1.2.3');
    const [a, b, ...others] = await noted(store);
    assert.equal(a, { id: 'a', startedAt: first, seenAt: now, stoppedAt: now, version: '1.2.3' });
    assert.equal([b?.stoppedAt, b?.version], [null, null]);
    assert.ok((b?.startedAt ?? 0) >= first + 5_000);
    assert.equal(others, []);
    await store.beat('a', false);
    assert.is((await noted(store))[0]?.stoppedAt, null);
    advance(SERVER_KEPT_MS + 1_000);
    assert.equal(await notedOnce(store, 'c', ''), ['c']);
  });

  test('a dead server: stays noted while a row is held that it may not have answered', async opened => {
    const { store, advance } = opened;
    await store.add(newRows(10, 11));
    const [died, stopped] = [await claimedBy(store, 10), await claimedBy(store, 11)];
    await store.beat(died, false);
    await store.beat(stopped, true);
    await store.beat('idle', false);
    advance(SERVER_KEPT_MS + 1_000);
    assert.equal(await notedOnce(store, 'a', died), ['a', 'died']);
    await make(store, 10, 'release');
    assert.equal(await notedOnce(store, 'b', died), ['a', 'b']);
  });

  test('a dead server: stays noted for what it claimed shortly before it was seen last', async opened => {
    const { store, advance } = opened;
    await store.add(newRows(10));
    const died = await claimedBy(store, 10);
    const notedLater = async (begins: string) => {
      await store.beat(died, false);
      advance(SERVER_KEPT_MS + 1_000);
      return notedOnce(store, begins, died);
    };
    advance(UNANSWERED_MAX_MS - 30_000);
    assert.equal(await notedLater('a'), ['a', 'died']);
    advance(-SERVER_KEPT_MS + 30_000);
    assert.equal(await notedLater('b'), ['a', 'b']);
  });
}

export function leases(test: Test): void {
  const lease = (store: Store, name: string, server: string) => store.lease(name, server, 10_000);

  test('a lease: its holder ends it, by taking it for no time', async ({ store }) => {
    assert.ok(await lease(store, 'one', 'a'));
    await store.lease('one', 'a', 0);
    assert.ok(await lease(store, 'one', 'b'));
    assert.not(await lease(store, 'one', 'a'));
  });

  test("a lease: is one server's until it ends or is renewed, by its name", async ({ store, advance }) => {
    assert.ok(await lease(store, 'one', 'a'));
    assert.not(await lease(store, 'one', 'b'));
    assert.ok(await lease(store, 'two', 'b'));
    advance(6_000);
    assert.ok(await lease(store, 'one', 'a'), 'renewed');
    advance(6_000);
    assert.not(await lease(store, 'one', 'b'));
    advance(4_001);
    assert.ok(await lease(store, 'one', 'b'), 'after its end');
    assert.not(await lease(store, 'one', 'a'));
  });

  test('a lease: taken before the clock was set back, it holds nobody up', async ({ store, advance }) => {
    assert.ok(await lease(store, 'one', 'a'));
    advance(-60_000);
    assert.ok(await lease(store, 'one', 'b'));
    assert.not(await lease(store, 'one', 'a'));
  });

  test('a lease: of many that want it at once, one has it', async ({ store }) => {
    const answers = await Promise.all(['a', 'b', 'c', 'd'].map(server => lease(store, 'one', server)));
    assert.is(answers.filter(Boolean).length, 1);
  });
}

const PERMIT = { name: 'assign', capacity: 3, intervalMs: 2_000, withinMs: 60_000, aheadMs: 600_000 };
/** How long so many have to wait: in seconds, since the clock of a real database runs on. */
async function permitsOf(
  store: Store,
  count: number,
  more: Partial<PermitQuery> = {},
): Promise<(number | null)[]> {
  const waits: (number | null)[] = [];
  for (let i = 0; i < count; i++) {
    const waitMs = await store.takePermit({ ...PERMIT, ...more });
    waits.push(waitMs === null ? null : Math.ceil(waitMs / 1_000));
  }
  return waits;
}

export function permits(test: Test): void {
  test('permits: what the bucket holds at once, the rest one by one, none beyond', async ({
    store,
    advance,
  }) => {
    assert.equal(await permitsOf(store, 5), [0, 0, 0, 2, 4]);
    assert.equal(await permitsOf(store, 2, { withinMs: 5_000 }), [null, null]);
    assert.equal(await permitsOf(store, 1), [6], 'what was not given was not taken');
    assert.equal(await permitsOf(store, 1, { name: 'unassign' }), [0], 'each bucket for itself');
    advance(4_000);
    assert.equal(await permitsOf(store, 1), [4]);
    advance(3_600_000);
    assert.equal(await permitsOf(store, 4), [0, 0, 0, 2], 'it holds no more than its capacity');
  });

  test('permits: one that leaves some in the bucket is given only while there are more', async ({
    store,
    advance,
  }) => {
    const sparing = { withinMs: -4_000 };
    assert.equal(await permitsOf(store, 2, sparing), [0, null]);
    assert.equal(await permitsOf(store, 2), [0, 0]);
    advance(4_000);
    assert.equal(await permitsOf(store, 1, sparing), [null]);
    advance(3_000);
    assert.equal(await permitsOf(store, 1, sparing), [0]);
    assert.equal(await permitsOf(store, 3), [0, 0, 2], 'what was not given was not taken');
  });

  test('permits: one that is given back goes to the next, and the bucket stays as large', async ({
    store,
    advance,
  }) => {
    assert.equal(await permitsOf(store, 5), [0, 0, 0, 2, 4]);
    await store.giveBackPermit(PERMIT);
    assert.equal(await permitsOf(store, 2), [4, 6]);
    for (let i = 0; i < 20; i++) await store.giveBackPermit(PERMIT);
    await store.giveBackPermit({ ...PERMIT, name: 'nobody has used' });
    advance(3_600_000);
    assert.equal(await permitsOf(store, 4), [0, 0, 0, 2]);
  });

  test('permits: of many who ask at once each has one of its own', async ({ store }) => {
    const waits = await Promise.all(range(12).map(() => store.takePermit(PERMIT)));
    const seconds = waits.map(ms => (ms ?? Number.NaN) / 1_000).sort((a, b) => a - b);
    // A database's clock goes on while they ask.
    for (const [i, due] of [0, 0, 0, 2, 4, 6, 8, 10, 12, 14, 16, 18].entries()) {
      const offBy = Math.abs((seconds[i] ?? Number.NaN) - due);
      assert.ok(offBy < 1, `permit ${i} after ${seconds[i]} s, not ${due}`);
    }
  });

  test('permits: a throttle empties the bucket and halves its speed, once for all', async ({
    store,
    advance,
  }) => {
    const slow = { ...PERMIT, intervalMs: 1_000, capacity: 100 };
    assert.is(await store.slowBucket(PERMIT), 1);
    assert.is(await store.slowBucket(PERMIT), null);
    assert.equal(await permitsOf(store, 2, slow), [2, 4]);
    advance(6_000);
    assert.is(await store.slowBucket(PERMIT), 2);
    assert.equal(await permitsOf(store, 1, slow), [4]);
    advance(11_000);
    assert.equal(await permitsOf(store, 2, slow), [0, 0], 'faster again');
    assert.is(await store.slowBucket(PERMIT), 2, 'one of the two halvings was over');
    advance(40_000);
    assert.is(await store.slowBucket(PERMIT), 1);
    for (let i = 2; i <= 6; i++) {
      advance(1_000);
      assert.is(await store.slowBucket(PERMIT), Math.min(i, 4));
    }
  });

  test('permits: a throttle slows what is not given yet, once for all that is', async ({
    store,
    advance,
  }) => {
    await permitsOf(store, 8); // the last one in 10 s
    assert.is(await store.slowBucket(PERMIT), 1);
    assert.equal(await permitsOf(store, 2), [14, 18]);
    advance(8_000);
    assert.is(await store.slowBucket(PERMIT), null, 'that one was given before');
    advance(4_000);
    assert.is(await store.slowBucket(PERMIT), 2);
    assert.equal(await permitsOf(store, 1), [14]);
  });

  test('permits: a clock that was set back holds nobody up', async ({ store, advance }) => {
    await permitsOf(store, 4);
    await store.slowBucket(PERMIT);
    advance(-3_600_000);
    assert.equal(await permitsOf(store, 2), [2, 4]);
    assert.is(await store.slowBucket(PERMIT), 1);
  });
}
