/** How a process of the bundle is brought to a named point between an intent and its confirmation, from outside:
 *  by holding the store or EC2. Then it can be killed there. */

import type { LetGo, MariaLedger, SqliteLedger } from '../kit/databases/ledgers.ts';
import { type Site, SUBNET } from '../kit/servers/site.ts';
import { pause, until } from '../kit/wait.ts';

const GRACE_MS = 1000;
const LATE_MS = 700; // within the grace
const LATENCY_MS = 60_000;
/** Time enough to take the lock of a file while EC2's answer is under way. */
const SHORT_LATENCY_MS = 400;
/** For a request or a call's answer to come to its next write. */
const ARRIVE_MS = 250;
const REACHED_MAX_MS = 30_000;
const ASSIGN = 'AssignPrivateIpAddresses';
const UNASSIGN = 'UnassignPrivateIpAddresses';

export type Hold =
  /** The statement that would write this status does not reach the store. */
  | { readonly before: string }
  /** It is done, and whoever sent it hears nothing. */
  | { readonly after: string }
  /** It waits in the database, and is done only when its sender is dead. */
  | { readonly late: string }
  /** Nothing is held: the operation's own client does not read the answer. */
  | { readonly unread: true }
  /** What EC2 does with the call. */
  | { readonly ec2: 'hang' | 'applyLate' | 'latency' };

type StoreHold = Exclude<Hold, { ec2: unknown } | { unread: unknown }>;

export interface Operation {
  /** Whose death it is. */
  readonly subject: string;
  /** The EC2 action in the middle of it. */
  readonly action: string | null;
  /** On an ENI with a network and no address yet. */
  prepare(site: Site, eni: string): Promise<void>;
  /** Begins it; what this answers kills the process, and resolves when whoever asked knows that. */
  begin(site: Site, eni: string): () => Promise<void>;
}

/** A container that has an address on the ENI. */
async function startOn(site: Site, eni: string): Promise<string> {
  const ip = await site.checker.start(site.url, eni);
  if (ip === null) throw new Error(`${eni} gave no address`);
  return ip;
}

const called = (site: Site, action: string, before: number): Promise<void> =>
  until(`${action} is called`, async () => (await site.ec2.calls(action)) > before);

/** Kills the server; then whoever asked learns it. */
const killing = (site: Site, asked: Promise<unknown>) => async (): Promise<void> => {
  await site.kill9();
  await asked;
};

export const OPERATIONS = {
  start: {
    subject: 'the server that gives an address',
    action: ASSIGN,
    prepare: async () => {},
    begin: (site, eni) => killing(site, site.checker.start(site.url, eni)),
  },
  'start unread': {
    subject: 'the server that gives an address',
    action: ASSIGN,
    prepare: async () => {},
    begin(site, eni) {
      const leave = site.checker.startUnread(site.url, eni);
      return async () => {
        await site.kill9();
        leave();
      };
    },
  },
  stop: {
    subject: 'the server that takes an address back',
    action: null,
    prepare: async (site, eni) => void (await startOn(site, eni)),
    begin(site, eni) {
      const [ip = ''] = [...site.checker.live].find(([, container]) => container.eni === eni) ?? [];
      return killing(site, site.checker.stop(site.url, ip));
    },
  },
  recycle: {
    subject: 'recycle that takes an address off its ENI',
    action: UNASSIGN,
    async prepare(site, eni) {
      await site.run('recycle', SUBNET, '--idle', '0s'); // so that the next one finds one address only
      await site.checker.stop(site.url, await startOn(site, eni));
    },
    begin(site) {
      const command = site.command(['recycle', SUBNET, '--idle', '0s'], /ADDRESS/);
      return async () => (await command).kill9();
    },
  },
  'take over': {
    subject: 'the server that takes over an unfinished intent',
    action: UNASSIGN,
    async prepare(site, eni) {
      const before = await site.ec2.calls(ASSIGN);
      await site.ec2.tell('POST', 'faults', { kind: 'hang', action: ASSIGN, eni });
      const asked = site.checker.start(site.url, eni);
      await called(site, ASSIGN, before);
      await killing(site, asked)();
      await site.ec2.tell('DELETE', 'faults');
      await pause(GRACE_MS);
    },
    begin(site) {
      const started = site.start();
      return async () => {
        await started;
        await site.kill9();
      };
    },
  },
} as const satisfies Record<string, Operation>;

/** A point that was armed before the operation. */
interface Armed {
  /** Resolves when the operation stands still there. */
  readonly reached: Promise<unknown>;
  letGo: LetGo;
}

/** Brings the operation to where it is held; returns what kills its process there and lets the store go. */
export async function bringTo(
  hold: Hold,
  operation: Operation,
  eni: string,
  site: Site,
  ledger: MariaLedger | SqliteLedger,
): Promise<() => Promise<void>> {
  const before = operation.action === null ? 0 : await site.ec2.calls(operation.action);
  const answering = async () => {
    if (operation.action !== null) await called(site, operation.action, before);
  };
  let armed: Armed = { reached: Promise.resolve(), letGo: async () => {} };
  if ('ec2' in hold) {
    const ms = { hang: {}, applyLate: { ms: LATE_MS }, latency: { ms: LATENCY_MS } }[hold.ec2];
    await site.ec2.tell('POST', 'faults', { kind: hold.ec2, action: operation.action, eni, ...ms });
    armed = { ...armed, reached: answering() };
  } else if ('unread' in hold) {
    // the row says when it is reached
  } else if ('gate' in ledger) armed = armGate(ledger, hold);
  else {
    const late = { kind: 'latency', ms: SHORT_LATENCY_MS, action: operation.action, eni };
    if (operation.action !== null) await site.ec2.tell('POST', 'faults', late);
    armed = await armLock(ledger, hold, operation, answering);
  }
  const kill = operation.begin(site, eni);
  const end = async () => {
    await kill();
    await armed.letGo();
    await site.ec2.tell('DELETE', 'faults');
  };
  try {
    await Promise.race([armed.reached, tooLate()]);
  } catch (error) {
    await end();
    throw error;
  }
  return end;
}

/** What is never reached fails, instead of keeping the tests. */
const tooLate = (): Promise<never> =>
  new Promise((_, reject) => {
    const late = AbortSignal.timeout(REACHED_MAX_MS);
    late.addEventListener('abort', () =>
      reject(new Error(`the point was not reached in ${REACHED_MAX_MS} ms`)),
    );
  });

function armGate({ gate }: MariaLedger, hold: StoreHold): Armed {
  const letGo = async () => {};
  const writes = (status: string) => `\`status\` = '${status}', \`generation\` =`;
  if ('before' in hold) return { reached: gate.trap('delay', writes(hold.before)), letGo };
  if ('after' in hold) return { reached: gate.trap('swallow reply', writes(hold.after)), letGo };
  const sprung = gate.trap('hold', writes(hold.late)).then(send => {
    gate.blackHole(true); // the writer must not settle it before it dies
    return send;
  });
  return {
    reached: sprung,
    letGo: async () => {
      await (await sprung)();
      gate.blackHole(false);
    },
  };
}

/** SQLite has no packets to hold: whoever has the write lock holds the next write. */
async function armLock(
  ledger: SqliteLedger,
  hold: StoreHold,
  operation: Operation,
  answering: () => Promise<void>,
): Promise<Armed> {
  if (!('before' in hold)) throw new Error('what a process writes into a file dies with it');
  // The first write of an operation is held from its beginning, the second from when EC2's answer is under way.
  const isFirst = hold.before.endsWith('ssigning') || operation.action === null;
  const lock = isFirst ? Promise.resolve(ledger.lock()) : answering().then(() => ledger.lock());
  // Nothing tells that a process waits for the lock; what it has left by then is looked at afterwards.
  const stands = () => pause((isFirst ? 0 : SHORT_LATENCY_MS) + ARRIVE_MS);
  return { reached: lock.then(stands), letGo: async () => (await lock)() };
}
