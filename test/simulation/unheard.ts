/** A claim whose client is gone, and what becomes of its address until the server rolls it back. */
import type { Engine } from './engine.ts';
import type { Port } from './layout.ts';
import { anyPlace, type Operation, on, robbedPort, spread } from './operation.ts';
import type { Server } from './server.ts';
import { takeOff } from './vpc-operations.ts';
import type { World } from './world.ts';

/** How long the claim is waited for. */
const CLAIM_MS_MAX = 5_000;
/** Longer than the absence of an address takes to count. */
const FROZEN_MIN_MS = 350_000;
const FROZEN_MS_MAX = 100_000;

export const UNHEARD_OPERATIONS = {
  // The server freezes with the claim, Docker is killed, and another server puts the address on its ENI again.
  'unheard claim is repaired': on(
    1,
    (world, dice) => (world.layout.hasAgents && robbedPort(world, dice) ? anyPlace(world, dice) : undefined),
    (world, { engine, network }, [, , long]) => {
      const server = world.pickServer(network.port.ledger);
      world.routes.set(network.port.ledger, server);
      void engine.run(network, null);
      freezeAtClaim(world, { server, engine, port: network.port }, spread(FROZEN_MS_MAX, long), CLAIM_MS_MAX);
    },
  ),
} satisfies Record<string, Operation>;

interface Asked {
  readonly server: Server;
  readonly engine: Engine;
  readonly port: Port;
}

function freezeAtClaim(world: World, asked: Asked, moreMs: number, leftMs: number): void {
  const { clock, oracle, routes } = world;
  const { server, engine, port } = asked;
  const { process } = server;
  const mirror = oracle.mirrorOf(port);
  const row = [...(oracle.unanswered.get(process) ?? [])]
    .map(key => mirror.rows.get(key))
    .find(one => one?.status === 'allocated' && one.iface === port.eni);
  if (row === undefined && process.state === 'running' && leftMs > 0) {
    clock.effect(null, () => freezeAtClaim(world, asked, moreMs, leftMs - 1), 1);
    return;
  }
  routes.delete(port.ledger);
  if (row === undefined || process.state !== 'running') return;
  oracle.note(`${process.id}: freezes with its claim of ${row.ip}`);
  clock.freeze(process);
  clock.effect(null, () => clock.thaw(process), FROZEN_MIN_MS + moreMs);
  engine.kill(true, FROZEN_MS_MAX);
  if (oracle.secondaries(port.eni).includes(row.ip)) takeOff(world, port, row.ip);
}
