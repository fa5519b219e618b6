/** What the load driver does to a server: windows of time in which clients ask one thing after another, and bursts. */
import { addressIn, type Connection, errorIn, post } from './connection.ts';
import { type Histogram, newHistogram, record } from './histogram.ts';
import type { Answers, BurstResult, HttpWindow, Lease, WindowResult } from './messages.ts';

export const NOOP_PATH = '/IpamDriver.GetDefaultAddressSpaces';

const body = (eni: string): string =>
  JSON.stringify({ PoolID: eni, Address: '', Options: { 'com.docker.network.endpoint.name': 'benchmark' } });
export const noopFor = (eni: string): string => post(NOOP_PATH, body(eni));
const requestFor = (eni: string): string => post('/IpamDriver.RequestAddress', body(eni));
const releaseFor = (eni: string, ip: string): string =>
  post('/IpamDriver.ReleaseAddress', `{"PoolID":"${eni}","Address":"${ip}"}`);

const newResult = (): WindowResult => ({
  calls: 0,
  requests: newHistogram(),
  releases: newHistogram(),
  duplicates: 0,
  errors: 0,
  firstError: null,
});

function noteError(answers: Answers, response: string): void {
  const error = errorIn(response);
  if (error === null) return;
  answers.errors++;
  answers.firstError ??= error;
}

/** Runs `client` on every connection; each calls back when it has seen that the time is over. */
const forEachClient = (
  connections: readonly Connection[],
  client: (connection: Connection, index: number, over: () => void) => void,
): Promise<unknown> =>
  Promise.all(
    connections.map((connection, i) => new Promise<void>(resolve => client(connection, i, resolve))),
  );

export async function noopWindow(
  { enis, ms }: HttpWindow,
  connections: readonly Connection[],
): Promise<WindowResult> {
  const result = newResult();
  const deadline = performance.now() + ms;
  await forEachClient(connections, (connection, i, over) => {
    const request = noopFor(enis[i % enis.length] ?? '');
    const ask = () => {
      const startedAt = performance.now();
      if (startedAt >= deadline) return over();
      connection.exchange(request, response => {
        const now = performance.now();
        record(result.requests, now - startedAt);
        if (now <= deadline) result.calls++;
        noteError(result, response);
        ask();
      });
    };
    ask();
  });
  return result;
}

/** Each client keeps an address while it asks for the next one, and then gives the older one back: what somebody
 *  else is given in that time shows. At the end it gives back what it has. */
export async function loadWindow(
  { enis, ms }: HttpWindow,
  connections: readonly Connection[],
): Promise<WindowResult> {
  const result = newResult();
  const held = new Set<string>();
  const deadline = performance.now() + ms;
  const answered = (histogram: Histogram, startedAt: number, response: string) => {
    const now = performance.now();
    record(histogram, now - startedAt);
    if (now <= deadline) result.calls++;
    noteError(result, response);
  };
  await forEachClient(connections, (connection, i, over) => {
    const eni = enis[i % enis.length] ?? '';
    const request = requestFor(eni);
    const ask = (kept: string | null) => {
      const startedAt = performance.now();
      if (startedAt >= deadline) return kept === null ? over() : give(kept, over);
      connection.exchange(request, response => {
        answered(result.requests, startedAt, response);
        const ip = addressIn(response);
        if (ip === null) return ask(kept);
        if (held.has(ip)) result.duplicates++;
        held.add(ip);
        if (kept === null) ask(ip);
        else give(kept, () => ask(ip));
      });
    };
    const give = (ip: string, then: () => void) => {
      const startedAt = performance.now();
      held.delete(ip); // from now on the server may give it to somebody else
      connection.exchange(releaseFor(eni, ip), response => {
        answered(result.releases, startedAt, response);
        then();
      });
    };
    ask(null);
  });
  return result;
}

/** One request for each ENI that is named, as many at a time as there are connections. */
export async function burst(
  asked: readonly string[],
  connections: readonly Connection[],
): Promise<BurstResult> {
  const result: BurstResult = { leases: [], latenciesMs: [], duplicates: 0, errors: 0, firstError: null };
  const held = new Set<string>();
  const left = asked.values();
  await forEachClient(connections, (connection, _, over) => {
    const ask = () => {
      const { value: eni, done } = left.next();
      if (done) return over();
      const startedAt = performance.now();
      connection.exchange(requestFor(eni), response => {
        result.latenciesMs.push(performance.now() - startedAt);
        noteError(result, response);
        const ip = addressIn(response);
        if (ip !== null && held.has(ip)) result.duplicates++;
        if (ip !== null) {
          held.add(ip);
          result.leases.push({ eni, ip });
        }
        ask();
      });
    };
    ask();
  });
  return result;
}

/** One after another. */
export async function release(leases: readonly Lease[], connection: Connection): Promise<Answers> {
  const result: Answers = { duplicates: 0, errors: 0, firstError: null };
  for (const { eni, ip } of leases)
    await new Promise<void>(done =>
      connection.exchange(releaseFor(eni, ip), response => {
        noteError(result, response);
        done();
      }),
    );
  return result;
}
