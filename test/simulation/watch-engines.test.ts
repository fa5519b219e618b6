// Goal: the simulation knows who holds an address that two ledgers have given, so that it neither blames the program nor
// looks away. Method: two embedded ledgers, each on an instance with one ENI, and answers with the same address.
import type { Ipv4 } from '../../src/domain/address.ts';
import { Random } from '../kit/random.ts';
import { assert, suite } from '../kit/uvu.ts';
import type { Engine } from './engine.ts';
import { drawLayout, keyOf, type Layout, type Port } from './layout.ts';
import { watchPromise } from './watch-engines.ts';
import { World } from './world.ts';

const IP = '10.0.1.7' as Ipv4;

const twice = suite('simulation: one address in two ledgers');

twice('of two whose ENIs have left, the later one holds it', () => {
  const { oracle, give, leave, here, there, key } = twoLedgers();
  give(there);
  leave(there);
  leave(here);
  give(here);
  assert.is(oracle.held.get(key)?.eni, here.port.eni);
  assert.not(oracle.isLost(oracle.mirrorOf(here.port), key));
  assert.ok(oracle.isLost(oracle.mirrorOf(there.port), key));
  assert.is(oracle.violation, null);
});

twice('one whose ENI is there keeps it, and whether the other has it is unknown', () => {
  const { oracle, give, leave, here, there, key } = twoLedgers();
  give(there);
  leave(here);
  give(here);
  assert.is(oracle.held.get(key)?.eni, there.port.eni);
  assert.not(oracle.isLost(oracle.mirrorOf(there.port), key));
  assert.ok(oracle.isLost(oracle.mirrorOf(here.port), key));
  assert.is(oracle.violation, null);
});

twice('two whose ENIs are there break a rule', () => {
  const { oracle, give, here, there } = twoLedgers();
  give(there);
  give(here);
  assert.is(oracle.violation?.rule, 'no address is given twice');
});

interface Given {
  readonly engine: Engine;
  readonly port: Port;
}

function twoLedgers() {
  const world = new World(embedded(), 1, false);
  const { oracle, ec2 } = world;
  const [here, there] = world.engines.map(
    (engine): Given => ({ engine, port: engine.networks[0]?.port as Port }),
  );
  assert.ok(here !== undefined && there !== undefined && here.port.ledger !== there.port.ledger);
  const key = keyOf(here.port.subnet, IP);
  const { network } = ec2.vpc;
  return {
    oracle,
    here,
    there,
    key,
    /** An answer with the address, which is on the ENI then if that is attached. */
    give({ engine, port }: Given) {
      const mirror = oracle.mirrorOf(port);
      if (oracle.instanceOf(port.eni) !== null)
        network.assign({ eni: port.eni, ips: [IP], allowReassignment: true });
      mirror.claims.set(key, 1 + oracle.claimOf(mirror, key));
      watchPromise(oracle, engine, { port, ip: IP, call: null });
    },
    leave({ port }: Given) {
      network.detach(network.eni(port.eni).attachment?.id as string);
    },
  };
}

/** The first layout with embedded ledgers. */
function embedded(): Layout {
  for (let seed = 1; ; seed++) {
    const layout = drawLayout(new Random(seed));
    if (layout.owners.every(owner => owner !== null)) return layout;
  }
}

twice.run();
