/** Reads from Docker's API over its unix socket what it knows of addresses: networks and containers. */
import { type IncomingMessage, request } from 'node:http';
import * as v from 'valibot';
import { type Ipv4, parseIpv4 } from '../domain/address.ts';
import { CONTAINER_ID } from '../domain/container.ts';
import { IpamError } from '../domain/error.ts';
import { cleaned } from '../domain/text.ts';

/** Docker Engine 25 and later know it, and none has dropped it yet. */
const API = '/v1.44';
/** A list of 10,000 containers has some 20 MB. */
const BODY_BYTES_MAX = 64 * 1024 * 1024;
/** Networks that may disappear between the list and their description, before a reading fails. */
const RESTARTS_MAX = 3;
const NAME_CHARS_MAX = 255;
/** Runtimes that leave a container's addresses on the interfaces of its network namespace. */
const KNOWN_RUNTIMES = ['runc', 'io.containerd.runc.v2'];
/** The states in which a container has the address that Docker lists for it. In any other the list may be old. */
const LIVE_STATES = ['running', 'paused'];

/** An address that a network of Docker lists for an endpoint. */
export interface DockerEndpoint {
  readonly ip: Ipv4;
  /** The interface of its network; null: it has none. */
  readonly parent: string | null;
  /** Null: the container is about to start, or the endpoint was left behind. */
  readonly container: string | null;
  readonly name: string | null;
}
export interface DockerContainer {
  readonly id: string;
  readonly name: string | null;
  readonly image: string | null;
  readonly ips: readonly Ipv4[];
}
/** A network on an interface of the host. */
export interface DockerNetwork {
  readonly driver: string;
  readonly parent: string;
  readonly mode: string | null;
  readonly flag: string | null;
}
export interface DockerView {
  readonly engine: string;
  readonly hasOtherRuntimes: boolean;
  readonly networks: readonly DockerNetwork[];
  readonly endpoints: readonly DockerEndpoint[];
  /** All containers; only a running or paused one has addresses. */
  readonly containers: readonly DockerContainer[];
}

/** A network, and for which ENI it is. */
export interface DockerNetworkInfo {
  readonly name: string;
  readonly driver: string;
  readonly parent: string | null;
  readonly mode: string | null;
  readonly ipamDriver: string;
  /** Its `--ipam-opt eni-id=`. */
  readonly eni: string | null;
}

export interface DockerClient {
  /** Reads everything. Throws unavailable when Docker does not answer all of it. */
  read(signal: AbortSignal): Promise<DockerView>;
  /** Reads the containers only. */
  containers(signal: AbortSignal): Promise<DockerContainer[]>;
  /** Returns the version of the engine. Engines before 25 answer this too. */
  version(signal: AbortSignal): Promise<string>;
  /** Reads what the networks are, on an interface of the host or not. */
  networks(signal: AbortSignal): Promise<DockerNetworkInfo[]>;
}

const text = v.optional(v.nullable(v.string()), null);
const Info = v.object({ ID: v.string(), Runtimes: v.nullish(v.record(v.string(), v.unknown())) });
const Version = v.object({ Version: v.string() });
const Networks = v.array(v.object({ Id: v.pipe(v.string(), v.regex(/^\w+$/)) }));
const Endpoint = v.object({ Name: text, IPv4Address: text });
// No filter by IPAM driver: the network of a swarm task names none.
const Network = v.object({
  Name: text,
  Driver: text,
  IPAM: v.nullish(v.object({ Driver: text, Options: v.nullish(v.record(v.string(), v.string())) })),
  Options: v.nullish(v.record(v.string(), v.string())),
  Containers: v.nullish(v.record(v.string(), Endpoint)),
});
const Containers = v.array(
  v.object({
    Id: v.string(),
    Names: v.nullish(v.array(v.string())),
    Image: text,
    State: text,
    NetworkSettings: v.nullish(
      v.object({ Networks: v.nullish(v.record(v.string(), v.nullable(v.object({ IPAddress: text })))) }),
    ),
  }),
);

/** Docker has no such network any more. */
class NotFoundError extends IpamError {}

export function createDockerClient(socketPath: string): DockerClient {
  async function get<S extends v.GenericSchema>(
    path: string,
    schema: S,
    signal: AbortSignal,
    api = API,
  ): Promise<v.InferOutput<S>> {
    const { status, body } = await exchange(`${api}${path}`, signal);
    if (status !== 200)
      throw failed(
        `GET ${path} was answered with ${status} ${printable(body)}`,
        status === 404 ? NotFoundError : IpamError,
      );
    let json: unknown;
    try {
      json = JSON.parse(body);
    } catch {
      throw failed(`the answer to GET ${path} is not JSON`);
    }
    const parsed = v.safeParse(schema, json);
    if (parsed.success) return parsed.output;
    const [issue] = parsed.issues;
    throw failed(`the answer to GET ${path} is not Docker's: ${v.getDotPath(issue) ?? 'it'} is unknown`);
  }

  const exchange = (path: string, signal: AbortSignal) =>
    new Promise<{ status: number; body: string }>((resolve, reject) => {
      const asked = request({
        socketPath,
        agent: false, // an open connection would keep a server that stops
        path,
        signal,
        headers: { host: 'docker' },
      });
      const fail = (error: unknown) => reject(signal.aborted ? signal.reason : failed(reasonOf(error)));
      asked.on('error', fail);
      asked.on('response', response => {
        bodyOf(response).then(body => resolve({ status: response.statusCode ?? 0, body }), fail);
      });
      asked.end();
    });

  const failed = (why: string, Kind = IpamError): IpamError =>
    new Kind('unavailable', `Docker at ${socketPath} cannot be read: ${why}`);

  async function containers(signal: AbortSignal): Promise<DockerContainer[]> {
    return (await get('/containers/json?all=1', Containers, signal)).map(({ Id, Names, Image, ...one }) => ({
      id: Id,
      name: nameOf(Names?.[0]),
      image: nameOf(Image),
      ips: LIVE_STATES.includes(one.State ?? '')
        ? Object.values(one.NetworkSettings?.Networks ?? {}).flatMap(network => ipsIn(network?.IPAddress))
        : [],
    }));
  }

  async function networks(signal: AbortSignal): Promise<v.InferOutput<typeof Network>[]> {
    for (let restarts = 0; ; restarts++)
      try {
        const found = [];
        for (const { Id } of await get('/networks', Networks, signal))
          found.push(await get(`/networks/${Id}`, Network, signal));
        return found;
      } catch (error) {
        if (!(error instanceof NotFoundError)) throw error;
        if (restarts >= RESTARTS_MAX) throw failed('networks disappear while they are read');
      }
  }

  return {
    containers,
    version: async signal => printable((await get('/version', Version, signal, '')).Version),
    networks: async signal =>
      (await networks(signal)).map(({ Name, Driver, Options, IPAM }) => ({
        name: printable(Name ?? ''),
        driver: printable(Driver ?? ''),
        parent: Options?.parent ?? null,
        mode: Options?.ipvlan_mode ?? null,
        ipamDriver: printable(IPAM?.Driver ?? ''),
        eni: IPAM?.Options?.['eni-id'] ?? null,
      })),
    async read(signal) {
      const { ID, Runtimes } = await get('/info', Info, signal);
      if (ID === '') throw failed('it has no id');
      const all = await networks(signal);
      return {
        engine: ID,
        hasOtherRuntimes: Object.keys(Runtimes ?? {}).some(name => !KNOWN_RUNTIMES.includes(name)),
        networks: all.flatMap(({ Driver, Options }) =>
          Options?.parent === undefined
            ? []
            : [
                {
                  driver: Driver ?? '',
                  parent: Options.parent,
                  mode: Options.ipvlan_mode ?? null,
                  flag: Options.ipvlan_flag ?? null,
                },
              ],
        ),
        endpoints: all.flatMap(({ Containers: listed, Options }) =>
          Object.entries(listed ?? {}).flatMap(([key, { Name, IPv4Address }]) =>
            ipsIn(IPv4Address).map(ip => ({
              ip,
              parent: Options?.parent ?? null,
              container: CONTAINER_ID.test(key) ? key : null,
              name: nameOf(Name),
            })),
          ),
        ),
        containers: await containers(signal),
      };
    },
  };
}

async function bodyOf(response: IncomingMessage): Promise<string> {
  response.setEncoding('utf8');
  let body = '';
  for await (const chunk of response) {
    body += chunk;
    if (body.length > BODY_BYTES_MAX) throw new Error('the answer is too long');
  }
  return body;
}

const reasonOf = (error: unknown): string => {
  const { code, message } = error as { code?: string; message?: string };
  return code ?? message ?? String(error);
};

/** `10.0.1.7/24` or `10.0.1.7`; none for an empty text. */
function ipsIn(address: string | null | undefined): Ipv4[] {
  const [ip = ''] = (address ?? '').split('/');
  return ip === '' ? [] : [parseIpv4(ip, 'an address of Docker')];
}

const printable = (value: string): string => cleaned(value, NAME_CHARS_MAX);
const nameOf = (name: string | null | undefined): string | null =>
  name == null || name === '' ? null : printable(name.replace(/^\//, ''));
