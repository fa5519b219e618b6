/** The contract of a store: which free rows it offers. */
import { parseCidr, spreadOf } from '../../../src/domain/address.ts';
import { LATE_READS_MS, SKIPPED_FOR_MS } from '../../../src/domain/allocation.ts';
import { type EniId, parseEniId } from '../../../src/domain/ids.ts';
import type { FreeQuery, Store } from '../../../src/store/store.ts';
import { freeFor, make, makeReady, newRow, newRows, REST } from '../../kit/ledger.ts';
import { ENI, ip, ipsOf, OTHER_ENI, OTHER_SUBNET, range } from '../../kit/rows.ts';
import { assert } from '../../kit/uvu.ts';
import type { Test } from '../store.contract.ts';

const free = async (store: Store, patch: Partial<FreeQuery> = {}) =>
  ipsOf((await store.freeFor(freeFor({ which: 'rested', limit: 100, ...patch }))).rows);
/** Whichever is asked. */
const freeAny = async (store: Store, patch: Partial<FreeQuery> = {}) => {
  const [rested, any] = [await free(store, patch), await free(store, { which: 'any', ...patch })];
  assert.equal(rested, any);
  return any;
};
/** Puts it on the ENI, gives it up there, and takes it off again. */
async function giveUp(store: Store, last: number, eni: EniId, unsure = false): Promise<void> {
  await makeReady(store, last, eni);
  for (const move of ['claim', 'release', 'unassign'] as const) await make(store, last, move);
  await make(store, last, 'unassigned', { unsure });
}

export function choosingFree(test: Test): void {
  test('freeFor: rows that never rested come from hash(ENI) on along spread, and wrap', async ({ store }) => {
    const lasts = range(60, 4);
    const others = [newRow(3, { status: 'reserved' }), newRow(70, { subnet: OTHER_SUBNET })];
    await store.add([...newRows(...lasts), ...others]);
    for (const eni of [ENI, OTHER_ENI, parseEniId('eni-0c1')]) {
      const order = lasts.map(ip).sort((a, b) => spreadOf(a) - spreadOf(b));
      const start = order.findIndex(one => spreadOf(one) >= spreadOf(eni));
      assert.ok(start > 0, 'this ENI shows no wrap-around');
      const turned = [...order.slice(start), ...order.slice(0, start)];
      assert.equal(await free(store, { eni }), turned);
      assert.equal(await free(store, { eni, limit: 5 }), turned.slice(0, 5));
    }
    const few = await free(store, { range: parseCidr('10.0.1.16/29') });
    assert.equal(few.sort(), range(8, 16).map(ip).sort());
  });

  test('freeFor: one ENI waits for the cooldown, others for the quarantine', async ({ store, advance }) => {
    await store.add(newRows(10));
    await make(store, 10, 'foreign', { iface: ENI });
    await make(store, 10, 'vacated'); // rests, and no Unassign of ours took it off
    const comes = async (eni: EniId, afterMs: number) => {
      advance(afterMs - 5_000);
      assert.equal(await free(store, { eni }), []);
      advance(5_000);
      assert.equal(await free(store, { eni }), [ip(10)]);
    };
    await comes(ENI, REST.cooldownMs);
    await comes(OTHER_ENI, REST.quarantineMs - REST.cooldownMs);
  });

  for (const [what, unsure, awayMs] of [
    ['while reads may be late', false, LATE_READS_MS],
    ['within the grace, if a call for it had no answer', true, REST.graceMs],
  ] as const)
    test(`freeFor: what an Unassign took off does not come back there ${what}`, async ({
      store,
      advance,
    }) => {
      await store.add(newRows(10));
      await giveUp(store, 10, ENI, unsure);
      advance(awayMs - 5_000);
      assert.equal(await freeAny(store), []);
      assert.equal(await free(store, { which: 'any', eni: OTHER_ENI }), [ip(10)]);
      advance(5_000);
      assert.equal(await freeAny(store), [ip(10)]);
    });

  test('freeFor: then the longest rested; refused ones last; others if asked', async ({ store, advance }) => {
    await store.add(newRows(...range(6, 10)));
    await make(store, 15, 'assign', { iface: OTHER_ENI });
    await make(store, 15, 'taken', { refused: true });
    await make(store, 15, 'vacated');
    const giveUpInTurn = async (...lasts: number[]) => {
      for (const last of lasts) {
        advance(1_000);
        await giveUp(store, last, OTHER_ENI);
      }
    };
    await giveUpInTurn(12, 11);
    advance(REST.quarantineMs);
    await giveUpInTurn(14, 13);
    const rested = [10, 12, 11, 15].map(ip);
    assert.equal(await free(store), rested);
    assert.equal(await free(store, { which: 'any' }), [...rested, ip(14), ip(13)]);
    assert.equal(await free(store, { which: 'any', limit: 5 }), [...rested, ip(14)]);
    const inRange = await free(store, { which: 'any', range: parseCidr('10.0.1.12/30') });
    assert.equal(inRange, [12, 15, 14, 13].map(ip));
  });

  test('freeFor: one that EC2 refused is skipped for ten minutes, then last', async ({ store, advance }) => {
    await store.add(newRows(10, 11, 12));
    await make(store, 11, 'assign', { iface: ENI });
    const skipped = await make(store, 11, 'skipped', { refused: true });
    assert.is(skipped.iface, null);
    assert.is(skipped.refusedAt, skipped.movedAt);
    advance(SKIPPED_FOR_MS - 5_000);
    for (const eni of [ENI, OTHER_ENI])
      assert.equal((await freeAny(store, { eni })).sort(), [10, 12].map(ip));
    advance(5_000);
    assert.is((await freeAny(store)).at(-1), ip(11));
    assert.equal(await free(store, { which: 'skipped' }), []);
    const { refusedAt } = await makeReady(store, 11);
    assert.is(refusedAt, null, 'EC2 minds it no more');
  });

  test('freeFor: those that are skipped are told apart, the one refused longest ago first', async ({
    store,
    advance,
  }) => {
    await store.add(newRows(10, 11, 12, 13));
    for (const last of [12, 10, 11]) {
      advance(1_000);
      if (last === 11) for (const move of ['foreign', 'vacated'] as const) await make(store, last, move);
      await make(store, last, 'assign', { iface: ENI });
      await make(store, last, 'skipped', { refused: true });
    }
    for (const eni of [ENI, OTHER_ENI])
      assert.equal(await free(store, { eni, which: 'skipped' }), [12, 10].map(ip), '11 has not rested');
    assert.equal(await free(store, { which: 'skipped', limit: 1 }), [ip(12)]);
    assert.equal(await free(store, { which: 'skipped', range: parseCidr('10.0.1.10/31') }), [ip(10)]);
    advance(REST.quarantineMs);
    assert.equal(await free(store, { which: 'skipped' }), [], 'they are suspects by now');
  });

  test('freeFor: one rested for this ENI goes before one not rested from another', async ({
    store,
    advance,
  }) => {
    await store.add(newRows(10, 11));
    await make(store, 10, 'foreign', { iface: OTHER_ENI });
    await make(store, 10, 'vacated');
    advance(1_000);
    await make(store, 11, 'foreign', { iface: ENI });
    await make(store, 11, 'vacated');
    advance(REST.cooldownMs);
    assert.equal(await free(store, { which: 'any' }), [11, 10].map(ip));
  });
}
