/** The contract of a store: hosts, and the nonces that they enrol with. */
import { HOST_KEPT_MS, type Host, isBlocked } from '../../../src/domain/host.ts';
import type { InstanceId } from '../../../src/domain/ids.ts';
import type { Store } from '../../../src/store/store.ts';
import { assert } from '../../kit/uvu.ts';
import type { Test } from '../store.contract.ts';

const A = 'i-0a' as InstanceId;
const B = 'i-0b' as InstanceId;
const DAY_MS = 24 * 3_600_000;

const hostIn = async (store: Store, instance: InstanceId): Promise<Host | undefined> =>
  (await store.hosts()).rows.find(host => host.instance === instance);

export function hosts(test: Test): void {
  test('a host: that enrols is noted with the end of its certificate, each time anew', async ({
    store,
    advance,
  }) => {
    const first = await store.enrolHost(A, DAY_MS);
    assert.is((first.expiresAt ?? 0) - (first.enrolledAt ?? 0), DAY_MS);
    assert.equal([first.seenAt, first.revokedAt, first.allowedAt], [null, null, null]);
    advance(1000);
    const second = await store.enrolHost(A, DAY_MS);
    assert.ok((second.enrolledAt ?? 0) >= (first.enrolledAt ?? 0) + 1000);
    assert.equal(await hostIn(store, A), second);
  });

  test('hosts: that were seen are noted, also those that did not enrol', async ({ store }) => {
    await store.enrolHost(A, DAY_MS);
    await store.noteSeen([]);
    await store.noteSeen([B, A]);
    const { now } = await store.hosts();
    for (const id of [A, B]) {
      const { seenAt = null } = (await hostIn(store, id)) ?? {};
      assert.ok(seenAt !== null && seenAt <= now && seenAt > now - 60_000, `${id} ${seenAt}`);
    }
    assert.is.not((await hostIn(store, A))?.enrolledAt, null);
    assert.is((await hostIn(store, B))?.enrolledAt, null);
  });

  test('a revoked host: does not enrol until it is allowed, and stays noted as revoked', async ({
    store,
    advance,
  }) => {
    const before = await store.enrolHost(A, DAY_MS);
    advance(1000);
    await store.revokeHost(A);
    await store.revokeHost(B);
    advance(1000);
    const refused = await store.enrolHost(A, DAY_MS);
    assert.ok(isBlocked(refused));
    await store.noteSeen(['i-0e' as InstanceId]);
    const ids = (await store.hosts('revoked')).rows.map(host => host.instance).sort();
    assert.equal(ids, [A, B]);
    assert.is(refused.enrolledAt, before.enrolledAt);
    assert.ok(isBlocked(await store.enrolHost(B, DAY_MS)), 'one that was never noted');
    assert.is(await store.allowHost(A), true);
    assert.is(await store.allowHost(A), false, 'it is not blocked any more');
    assert.is(await store.allowHost('i-0c' as InstanceId), false);
    const allowed = await store.enrolHost(A, DAY_MS);
    assert.not(isBlocked(allowed));
    assert.is(allowed.revokedAt, refused.revokedAt);
    assert.ok((allowed.enrolledAt ?? 0) > (allowed.revokedAt ?? 0));
    advance(1000);
    await store.revokeHost(A);
    assert.ok(isBlocked((await hostIn(store, A)) ?? allowed), 'again');
  });

  test('hosts: are forgotten long after their certificate and their last visit, revoked ones never', async ({
    store,
    advance,
  }) => {
    const [revoked, visitor] = ['i-0c', 'i-0d'] as InstanceId[];
    await store.enrolHost(A, DAY_MS);
    if (revoked !== undefined) await store.revokeHost(revoked);
    advance(DAY_MS + HOST_KEPT_MS - 1000);
    await store.noteSeen([visitor ?? A]);
    await store.enrolHost(B, DAY_MS);
    assert.is((await store.hosts()).rows.length, 4);
    advance(2000);
    await store.enrolHost(B, DAY_MS);
    const left = (await store.hosts()).rows.map(host => host.instance).sort();
    assert.equal(left, [B, 'i-0c', 'i-0d']);
  });

  test('a nonce: is good for one call, which may repeat it', async ({ store, advance }) => {
    assert.is(await store.takeNonce('n1', 'call-1', 60_000), true);
    assert.is(await store.takeNonce('n1', 'call-1', 60_000), true);
    assert.is(await store.takeNonce('n1', 'call-2', 60_000), false);
    assert.is(await store.takeNonce('n2', 'call-2', 60_000), true);
    advance(59_000);
    assert.is(await store.takeNonce('n1', 'call-3', 60_000), false);
    advance(2_000);
    assert.is(await store.takeNonce('n1', 'call-3', 60_000), true, 'forgotten after its time');
  });
}
