/** What agents tell a server of their hosts: a host says nothing of another's addresses, whatever it sends. */

import { WITNESS_AGE_MS } from '../../src/domain/witness.ts';
import { createWitnessApp, WITNESS_PATHS } from '../../src/http/hosts/witness.ts';
import { createInFlight } from '../../src/http/in-flight.ts';
import { createTestimony } from '../../src/ipam/sync/testimony.ts';
import { createWitnessed } from '../../src/ipam/sync/witnessed.ts';
import { placeOf, readingWith, useWith } from '../kit/readings.ts';
import { ENI_A, ENI_B, ROOMY, SUBNET } from '../kit/vpcs.ts';
import { NOT_WARM, world } from '../kit/world.ts';
import { socketsOf } from './clients.ts';
import type { Hostile } from './hostile.ts';
import { checkedAnswer, logInto, type Part, type Scene, type Target } from './part.ts';

const STATUSES = [200, 400, 403, 409, 503];
const STEP_MS = 5_000;
/** Addresses that each host holds. */
const HELD = 5;

async function open({ note, wrong }: Scene): Promise<Target> {
  const w = world({ vpc: ROOMY, policy: NOT_WARM });
  const log = logInto(wrong);
  const by = (instance: string) => ({
    from: { instance: instance as never, id: null, sentMsAgo: 0, givenTo: null },
  });
  for (let i = 0; i < HELD; i++) {
    await w.request(ENI_A, by('i-0a'));
    await w.request(ENI_B, by('i-0b'));
  }
  const witnessed = createWitnessed(w.context, w, { mode: 'release', ageMs: WITNESS_AGE_MS });
  const testimony = createTestimony(w.context, { attachments: w.attachments, witnessed });
  let now = 0;
  const clock = () => {
    now += 1_000; // no host is hasty
    return now;
  };
  const app = createWitnessApp(testimony, log, { isOpen: () => true, inFlight: createInFlight(), clock });
  // All readings are of A's host, of a host without ENIs, and of nobody: B's holdings stay.
  const sockets = socketsOf('URI:ec2-ipam://instance/i-0a', 'URI:ec2-ipam://instance/i-0f', null);
  const mac = w.vpc.network.eni(ENI_A).mac;
  let ticket = '';

  function bodyOf(hostile: Hostile, path: string): object {
    if (path === WITNESS_PATHS.begin) return {};
    const ip = `10.0.1.${hostile.below(30)}` as never;
    const answers = [
      { mac, kind: 'probed', free: [ip] },
      { mac, kind: 'not ipvlan' },
    ];
    if (path === WITNESS_PATHS.probed) return { ticket, answers };
    const uses = hostile.chance(0.5) ? [useWith(ip, { isInNetworks: true, places: [placeOf()] })] : [];
    return { ticket, reading: readingWith({ macs: [mac], uses }) };
  }

  return {
    async input(hostile) {
      w.time.now += hostile.below(STEP_MS);
      for (const { level, message, fields } of w.lines.splice(0)) log(level as never, message, fields);
      const path = hostile.oneOf(Object.values(WITNESS_PATHS));
      const body = hostile.body(bodyOf(hostile, path));
      const request = new Request(`https://localhost${path}`, {
        method: 'POST',
        body: body as Uint8Array<ArrayBuffer>,
        headers: hostile.chance(0.7) ? { 'content-length': `${body.length}` } : {},
      });
      const incoming = { socket: hostile.oneOf(sockets), headers: {} };
      const answer = await app.fetch(request, { incoming } as never);
      const told = checkedAnswer(await answer.text());
      note(`${path} ${answer.status}`);
      if (!STATUSES.includes(answer.status)) throw new Error(`status ${answer.status}`);
      if (typeof told.ticket === 'string') ({ ticket } = told as { ticket: string });
    },
    rest: () => w.time.wait(600_000),
    async end() {
      const { rows } = await w.store.withStatus(SUBNET, ['allocated']);
      const kept = rows.filter(({ iface }) => iface === ENI_B).length;
      if (kept !== HELD) throw new Error(`${HELD - kept} holdings of another host were ended`);
    },
  };
}

export const TESTIMONY: Part = { name: 'testimony', share: 40, lanes: 1, open };
