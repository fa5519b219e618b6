/** The part of a host's agent that reads the host and tells a server of it: the real loop, before simulated servers. */
import type { Agent as TlsAgent } from 'node:https';
import type { SendCall } from '../../src/agent/server-client.ts';
import { createWitnessLoop } from '../../src/agent/witness-loop.ts';
import { IpamError } from '../../src/domain/error.ts';
import type { InstanceId } from '../../src/domain/ids.ts';
import { Process } from '../kit/clock.ts';
import type { Engine } from './engine.ts';
import type { Server } from './server.ts';
import { createSimulatedWitness } from './witness.ts';
import type { World } from './world.ts';

const EVERY_MS = 60_000;
/** At rest, when keepers sleep much longer, so that most of the events are not theirs. */
const REST_EVERY_MS = 500_000;
const CREDENTIAL = { agent: {} as TlsAgent } as never;

export class Agent {
  readonly engine: Engine;
  readonly ledger: number;
  readonly #world: World;
  #lives = 0;
  process: Process;

  constructor(world: World, engine: Engine, ledger: number) {
    this.#world = world;
    this.engine = engine;
    this.ledger = ledger;
    this.process = this.#start();
  }

  /** A new process, which tells another server. */
  restart(): void {
    const { clock, oracle } = this.#world;
    oracle.note(`${this.process.id} starts anew`);
    clock.kill(this.process);
    this.process = this.#start();
  }

  #start(): Process {
    const world = this.#world;
    const { clock, random, oracle } = world;
    const host = this.engine.host as InstanceId;
    const process = new Process(`agent of ${host}.${++this.#lives}`);
    const servers = world.servers.filter(server => server.ledger === world.ledgers[this.ledger]);
    const first = random.below(servers.length);
    const { run } = createWitnessLoop({
      servers: servers.map((_, i) => ({ host: String((first + i) % servers.length), port: 443 })),
      serverCa: null,
      identity: { current: async () => CREDENTIAL },
      send: this.#sendFrom(process, host, servers),
      witness: createSimulatedWitness(world, process, host),
      unanswered: () => this.engine.unanswered(),
      everyMs: EVERY_MS,
      clock: () => clock.now,
      wait: ms => clock.waitIn(process, world.restingSince === null ? ms : Math.max(ms, REST_EVERY_MS)),
      random: random.next,
      log: (_level, message, { error } = {}) => oracle.note(`${process.id}: ${message}: ${error}`),
    });
    void run(new AbortController().signal);
    return process;
  }

  #sendFrom(process: Process, host: InstanceId, servers: readonly Server[]): SendCall {
    const { clock } = this.#world;
    return (to, { path, body, withinMs }) =>
      new Promise((resolve, reject) => {
        const fail = () => reject(new IpamError('unavailable', 'no answer'));
        const server = servers[Number(to.host)];
        if (server === undefined || server.process.state === 'dead' || server.isLeaving) {
          clock.resume(process, fail);
          return;
        }
        clock.resume(process, fail, withinMs);
        server.hear(host, path, body, answer => clock.resume(process, () => resolve(answer)));
      });
  }
}
