// Goal: which certificates of a host are accepted after it was revoked. Method: one row for each case.
import { type Host, isAccepted, isBlocked } from '../../src/domain/host.ts';
import type { InstanceId } from '../../src/domain/ids.ts';
import { assert, suite } from '../kit/uvu.ts';

const hosts = suite('hosts');
const NEVER = null;
const cases: [
  why: string,
  revoked: number | null,
  allowed: number | null,
  issued: number | null,
  ok: boolean,
][] = [
  ['never revoked', NEVER, NEVER, 10, true],
  ['made by hand', NEVER, NEVER, null, true],
  ['made before the host was revoked', 20, NEVER, 10, false],
  ['made after that, by a server that did not know yet', 20, NEVER, 30, false],
  ['made by hand, of a revoked host', 20, NEVER, null, false],
  ['made before, of a host that was allowed again', 20, 25, 10, false],
  ['made in the same instant', 20, 25, 20, false],
  ['made since the host was allowed', 20, 25, 30, true],
  ['made by hand, of a host that was allowed again', 20, 25, null, true],
];
for (const [why, revokedAt, allowedAt, issuedAt, ok] of cases)
  hosts(`a certificate ${why}: is ${ok ? '' : 'not '}accepted`, () => {
    const times = { enrolledAt: 10, expiresAt: 100, seenAt: 15, revokedAt, allowedAt };
    const host: Host = { instance: 'i-0a' as InstanceId, ...times };
    assert.is(isAccepted(host, issuedAt), ok);
    assert.is(isBlocked(host), revokedAt !== null && allowedAt === null);
  });
hosts.run();
