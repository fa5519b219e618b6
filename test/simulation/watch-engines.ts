/** Rules about the answers that engines get. */
import type { Ipv4 } from '../../src/domain/address.ts';
import type { Reply, Witness } from './connection.ts';
import type { Engine, Network } from './engine.ts';
import { keyOf, type Port } from './layout.ts';
import type { AgentCall, Holding, Oracle } from './oracle.ts';
import type { Request } from './server.ts';

/** A container has got its address. */
export function watchStart(oracle: Oracle, engine: Engine, { port }: Network, ip: Ipv4): Holding | null {
  oracle.note(`${engine.process.id}: a container has ${ip} on ${port.eni}`);
  const row = oracle.rowIn(port.ledger, port.subnet, ip);
  const isEnded = oracle.endedAstray.has(oracle.lastClaim(oracle.mirrorOf(port), keyOf(port.subnet, ip)));
  oracle.demand(
    isEnded || (row?.status === 'allocated' && row.iface === port.eni),
    'what a container was given is held in the ledger',
    () => `${ip} is ${row?.status} on ${row?.iface}`,
  );
  return oracle.holdingOn(port, ip);
}

/** Watches the answer to a request for an address; null for any other request. */
export function witnessOf(
  oracle: Oracle,
  engine: Engine,
  request: Request,
  call: AgentCall | null,
): Witness | null {
  if (request.kind !== 'RequestAddress') return null;
  const port = engine.networks.find(one => one.poolId === request.poolId)?.port;
  if (port === undefined) return null;
  const ipOf = (reply: Reply) => reply.Address?.split('/')[0] as Ipv4 | undefined;
  const mirror = oracle.mirrorOf(port);
  const countOf = (claim: string) => call?.written.get(claim) ?? 0;
  /** Whether another attempt of the call has told the agent of the address. */
  const isKnown = (ip: Ipv4) =>
    [...(call?.written ?? [])].some(([told, count]) => told.startsWith(`${ip} `) && count > 0);
  /** Which claim the answer tells of; null: of none that anybody learns of by it. */
  let claim: number | null = 0;
  return {
    written(reply, isOpen) {
      const ip = ipOf(reply);
      oracle.note(`answer for ${port.eni}: ${reply.Address ?? reply.Error}`);
      oracle.answers.set(port.eni, reply.Address ?? reply.Error ?? '');
      if (ip === undefined) return;
      // The answer to an attempt that the agent has given up may come when the address has been given anew. But it may
      // be given anew for this attempt: its id is forgotten by then.
      const key = keyOf(port.subnet, ip);
      const isForIt = call !== null && mirror.rows.get(key)?.requestId === call.id;
      claim = isOpen || !isKnown(ip) || isForIt ? oracle.claimOf(mirror, key) : null;
      if (claim === null) return;
      const isRepeated = countOf(`${ip} ${claim}`) > 0;
      call?.written.set(`${ip} ${claim}`, countOf(`${ip} ${claim}`) + 1);
      if (!isRepeated) watchPromise(oracle, engine, { port, ip, call });
    },
    unread(reply) {
      const ip = ipOf(reply);
      if (ip === undefined || claim === null) return;
      const left = countOf(`${ip} ${claim}`) - 1;
      call?.written.set(`${ip} ${claim}`, left);
      if (left > 0) return; // the agent has the same answer from another server
      const key = keyOf(port.subnet, ip);
      if (oracle.holdingOn(port, ip)?.claim === claim) oracle.held.delete(key);
      oracle.lose(mirror, key, 'its answer was read by nobody', claim);
    },
  };
}

interface Promised {
  readonly port: Port;
  readonly ip: Ipv4;
  readonly call: AgentCall | null;
}
export function watchPromise(oracle: Oracle, engine: Engine, { port, ip, call }: Promised): void {
  const { subnet, eni, ledger } = port;
  const key = keyOf(subnet, ip);
  const other = oracle.held.get(key);
  const isDead = oracle.hasLeft(port);
  oracle.demand(
    other === undefined || oracle.hasLeft(other) || isDead,
    'no address is given twice',
    () => `${key} was answered to ${engine.host} while ${other?.engine} holds it on ${other?.eni}`,
  );
  oracle.demand(
    isDead || oracle.secondaries(eni).includes(ip) || oracle.takenByOthers.get(key) === eni,
    'what is answered is on its ENI',
  );
  oracle.demand(!oracle.unloggedReuses.has(key), 'early reuse is logged');
  for (const claims of oracle.unanswered.values()) claims.delete(key);
  const mirror = oracle.mirrorOf(port);
  const claim = oracle.claimOf(mirror, key);
  // One of two keeps it. The ENI of the one that does not may return to its instance; the address is not its own any more.
  if (other !== undefined && isDead && !oracle.hasLeft(other)) {
    oracle.lose(mirror, key, 'its ENI had left', claim);
    return;
  }
  if (other !== undefined) oracle.lose(oracle.mirrorOf(other), key, 'its ENI had left', other.claim);
  oracle.held.set(key, { subnet, ip, eni, engine: engine.host, ledger, claim, since: oracle.now, call });
}
