/** The contract of a store: what hosts have shown of addresses. */
import type { LedgerSighting } from '../../../src/domain/witness.ts';
import { ENI, ip, OTHER_ENI, OTHER_SUBNET, range, SUBNET } from '../../kit/rows.ts';
import { sightingWith } from '../../kit/sightings.ts';
import { assert } from '../../kit/uvu.ts';
import type { Test } from '../store.contract.ts';

/** More than fit into one statement. */
const MANY = range(600, 4);

const FULL: Partial<LedgerSighting> = {
  ...{ generation: 4_000_000_000, boot: 'boot', engine: 'engine', attachment: 'eni-attach-0a' },
  ...{ unseenSince: 1_700_000_000_000, unseenReadings: 2, usedSince: 1_700_000_000_001, usedReadings: 3 },
  ...{ seenAt: 1_700_000_000_002, container: 'c'.repeat(64), name: 'wéb', image: 'image:1', finding: 'a' },
};

export function sightings(test: Test): void {
  test('sightings: are kept as they are, by ENI, in the order of their addresses', async ({ store }) => {
    const [full, plain] = [sightingWith(9, FULL), sightingWith(10)];
    const other = sightingWith(8, { iface: OTHER_ENI });
    await store.saveSightings([plain, full, other], []);
    const { rows, now } = await store.sightings([ENI]);
    assert.equal(rows, [full, plain]);
    assert.ok(now > 1_600_000_000_000);
    assert.equal((await store.sightings([ENI, OTHER_ENI])).rows, [other, full, plain]);
    assert.equal((await store.sightings([])).rows, []);
  });

  test('sightings: a later one of the same address replaces the earlier', async ({ store }) => {
    const elsewhere = sightingWith(9, { subnet: OTHER_SUBNET, iface: OTHER_ENI });
    await store.saveSightings([sightingWith(9, FULL), elsewhere], []);
    const later = sightingWith(9, { iface: OTHER_ENI, generation: 8 });
    await store.saveSightings([later], []);
    assert.equal((await store.sightings([ENI])).rows, []);
    const { rows } = await store.sightings([OTHER_ENI]);
    assert.equal(
      rows.toSorted((a, b) => (a.subnet < b.subnet ? -1 : 1)),
      [later, elsewhere],
    );
  });

  test('sightings: are forgotten by address, many at a time, and nothing is no error', async ({ store }) => {
    await store.saveSightings([], []);
    await store.saveSightings(
      MANY.map(last => sightingWith(last)),
      [],
    );
    assert.is((await store.sightings([ENI])).rows.length, MANY.length);
    await store.saveSightings(
      [],
      [{ subnet: OTHER_SUBNET, ip: ip(4) }, ...MANY.slice(1).map(last => ({ subnet: SUBNET, ip: ip(last) }))],
    );
    assert.equal((await store.sightings([ENI])).rows, [sightingWith(4)]);
  });
}
