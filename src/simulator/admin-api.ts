/** The simulator's own JSON API: it reads and changes the VPC and sets faults. */
import { type Context, Hono } from 'hono';
import * as v from 'valibot';
import { formatCidr } from '../domain/address.ts';
import { IpamError } from '../domain/error.ts';
import { parseEniId, parseInstanceId } from '../domain/ids.ts';
import { isLoopbackSocket, pageRefusal } from '../domain/web-page.ts';
import { ADMIN_HELP } from './admin-help.ts';
import { BODY_BYTES_MAX, bodyText, type ConnectionEnv } from './http.ts';
import { Ec2Error, refuse } from './model/ec2-error.ts';
import type { Fault } from './model/faults.ts';
import { HISTORY_MS_MAX } from './model/records.ts';
import { LATE_MS_MAX, type Vpc } from './model/vpc.ts';
import {
  AttachmentSchema,
  account,
  addEni,
  addInstance,
  addSubnet,
  EniSchema,
  eniId,
  InstanceSchema,
  ipv4,
  parseInput,
  SubnetSchema,
  subnetId,
} from './model/world.ts';

const LATENCY_MS_MAX = 600_000;

const milliseconds = (max: number) => v.pipe(v.number(), v.minValue(0), v.maxValue(max));
const struck = {
  action: v.exactOptional(v.string()),
  eni: v.exactOptional(eniId),
  times: v.exactOptional(v.pipe(v.number(), v.integer(), v.minValue(1))),
  chance: v.exactOptional(v.pipe(v.number(), v.minValue(0), v.maxValue(1))),
};
const answered = { code: v.exactOptional(v.string()), message: v.exactOptional(v.string()) };
const FaultSchema = v.variant('kind', [
  v.strictObject({ kind: v.literal('latency'), ms: milliseconds(LATENCY_MS_MAX), ...struck }),
  v.strictObject({ kind: v.literal('error'), code: v.string(), message: v.string(), ...struck }),
  v.strictObject({ kind: v.literal('throttle'), ...struck }),
  v.strictObject({ kind: v.literal('lostReply'), ...answered, ...struck }),
  v.strictObject({ kind: v.literal('hang'), ...struck }),
  v.strictObject({ kind: v.literal('applyLate'), ms: milliseconds(LATE_MS_MAX), ...answered, ...struck }),
  v.strictObject({ kind: v.literal('readLag'), ms: milliseconds(HISTORY_MS_MAX), ...struck }),
]);
const StateSchema = v.strictObject({ state: v.picklist(['running', 'stopped', 'terminated']) });
const AssignSchema = v.strictObject({
  ips: v.exactOptional(v.array(ipv4)),
  count: v.exactOptional(v.number()),
  allowReassignment: v.exactOptional(v.boolean()),
});
const UnassignSchema = v.strictObject({ ips: v.array(ipv4) });
const TagsSchema = v.record(v.string(), v.string());
const ForeignSchema = v.strictObject({ subnet: subnetId, ip: ipv4 });
const RightsSchema = v.strictObject({ denied: v.array(v.string()) });
const BucketsSchema = v.strictObject({ scale: v.nullable(v.pipe(v.number(), v.minValue(0))) });
const AdvanceSchema = v.strictObject({ ms: v.pipe(v.number(), v.minValue(0)) });
const DateSchema = v.strictObject({ aheadMs: v.number() });
const SessionSchema = v.strictObject({
  role: v.string(),
  name: v.string(),
  account: v.exactOptional(account),
});
const AfterSchema = v.pipe(v.string(), v.regex(/^\d{1,15}$/), v.transform(Number));

/** ADMIN_HELP describes the requests. */
export function createAdminApi(vpc: Vpc): Hono<ConnectionEnv> {
  const app = new Hono<ConnectionEnv>();
  app.onError((error, c) => {
    if (error instanceof Ec2Error) return c.json({ code: error.code, error: error.message }, 400);
    if (error instanceof IpamError) return c.json({ code: error.code, error: error.line }, 400);
    throw error;
  });
  app.use('/simulator/*', async (c, next) => {
    const onLoopback = isLoopbackSocket(c.env?.incoming?.socket.localAddress);
    const { origin, host, 'sec-fetch-site': secFetchSite } = c.req.header();
    const refusal = pageRefusal({ origin, host, secFetchSite }, onLoopback);
    return refusal === null ? await next() : c.json({ code: refusal.code, error: refusal.line }, 403);
  });
  addReads(app, vpc);
  addChanges(app, vpc);
  addFaults(app, vpc);
  return app;
}

function addReads(app: Hono<ConnectionEnv>, vpc: Vpc): void {
  app.get('/simulator', c => c.text(ADMIN_HELP));
  app.get('/simulator/state', c => json(c, stateOf(vpc)));
  app.get('/simulator/calls', c => json(c, Object.fromEntries(vpc.calls)));
  app.get('/simulator/journal', c => {
    const after = parseInput(AfterSchema, c.req.query('after') ?? '0', 'after');
    return json(c, vpc.network.journalAfter(after));
  });
}

function addChanges(app: Hono<ConnectionEnv>, vpc: Vpc): void {
  app.post('/simulator/subnets', async c => json(c, addSubnet(vpc, await body(c, SubnetSchema))));
  app.post('/simulator/instances', async c => json(c, addInstance(vpc, await body(c, InstanceSchema))));
  app.put('/simulator/instances/:id/state', async c => {
    const id = parseInstanceId(c.req.param('id'));
    const { state } = await body(c, StateSchema);
    if (state === 'terminated') vpc.network.terminate(id);
    else vpc.network.setInstanceState(id, state);
    return json(c, vpc.network.instance(id));
  });
  app.post('/simulator/enis', async c => json(c, addEni(vpc.network, await body(c, EniSchema))));
  app.delete('/simulator/enis/:id', c => {
    vpc.network.deleteEni(parseEniId(c.req.param('id')), 'its owner');
    return json(c, {});
  });
  app.post('/simulator/enis/:id/attach', async c => {
    const id = parseEniId(c.req.param('id'));
    const { instance, deviceIndex, deleteOnTermination } = await body(c, AttachmentSchema);
    vpc.network.attach(id, instance, deviceIndex, deleteOnTermination);
    return json(c, vpc.network.eni(id));
  });
  app.post('/simulator/enis/:id/detach', c => {
    const eni = vpc.network.eni(parseEniId(c.req.param('id')));
    if (eni.attachment === null) throw refuse.noSuchAttachment(`of ${eni.id}`);
    vpc.network.detach(eni.attachment.id);
    return json(c, vpc.network.eni(eni.id));
  });
  app.put('/simulator/enis/:id/tags', async c => {
    const id = parseEniId(c.req.param('id'));
    vpc.network.tag(id, await body(c, TagsSchema));
    return json(c, vpc.network.eni(id));
  });
  app.post('/simulator/enis/:id/assign', async c => {
    const eni = parseEniId(c.req.param('id'));
    vpc.network.assign({ eni, ...(await body(c, AssignSchema)) });
    return json(c, vpc.network.eni(eni));
  });
  app.post('/simulator/enis/:id/unassign', async c => {
    const id = parseEniId(c.req.param('id'));
    vpc.network.unassign(id, (await body(c, UnassignSchema)).ips);
    return json(c, vpc.network.eni(id));
  });
  app.post('/simulator/sessions', async c => {
    const { role, name, account } = await body(c, SessionSchema);
    return json(c, vpc.sessions.assume(role, name, account));
  });
  app.post('/simulator/foreign', async c => {
    const { subnet, ip: primary } = await body(c, ForeignSchema);
    const description = 'ELB app/somebody/0a1b2c3d4e5f6071';
    return json(c, vpc.network.createEni({ subnet, primary, requesterManaged: true, description }));
  });
}

function addFaults(app: Hono<ConnectionEnv>, vpc: Vpc): void {
  app.post('/simulator/faults', async c => {
    vpc.faults.add((await body(c, FaultSchema)) satisfies Fault);
    return json(c, vpc.faults.list);
  });
  app.delete('/simulator/faults', c => {
    vpc.faults.clear();
    return json(c, vpc.faults.list);
  });
  app.put('/simulator/buckets', async c => {
    vpc.buckets.scale = (await body(c, BucketsSchema)).scale;
    return json(c, { scale: vpc.buckets.scale });
  });
  app.put('/simulator/rights', async c => {
    const { denied } = await body(c, RightsSchema);
    vpc.denied.clear();
    for (const action of denied) vpc.denied.add(action);
    return json(c, { denied: [...vpc.denied] });
  });
  app.put('/simulator/date', async c => {
    vpc.dayAheadMs = (await body(c, DateSchema)).aheadMs;
    return json(c, { aheadMs: vpc.dayAheadMs });
  });
  app.post('/simulator/advance', async c => {
    vpc.advance((await body(c, AdvanceSchema)).ms);
    return json(c, { now: vpc.now(), lateCalls: vpc.lateCalls });
  });
}

const stateOf = (vpc: Vpc) => ({
  now: vpc.now(),
  region: vpc.region,
  lateCalls: vpc.lateCalls,
  bucketScale: vpc.buckets.scale,
  faults: vpc.faults.list,
  denied: [...vpc.denied],
  subnets: [...vpc.network.subnets()].map(subnet => ({
    ...subnet,
    available: vpc.network.available(subnet.id),
    reservations: vpc.network.reservations(subnet.id),
  })),
  instances: [...vpc.network.instances()],
  enis: [...vpc.network.enis()],
});

async function body<S extends v.GenericSchema>(c: Context, schema: S): Promise<v.InferOutput<S>> {
  const text = await bodyText(c);
  if (text === null) throw new IpamError('bad-request', `the body is longer than ${BODY_BYTES_MAX} bytes`);
  try {
    return parseInput(schema, JSON.parse(text), 'the body');
  } catch (error) {
    if (!(error instanceof SyntaxError)) throw error;
    throw new IpamError('bad-request', `the body is not JSON: ${error.message}`);
  }
}

/** CIDRs are text in JSON, as in requests. */
const json = (c: Context, value: unknown): Response =>
  c.body(
    `${JSON.stringify(value, (_, member) => (isCidr(member) ? formatCidr(member) : member), 2)}\n`,
    200,
    { 'content-type': 'application/json' },
  );

const isCidr = (value: unknown): value is Parameters<typeof formatCidr>[0] =>
  typeof value === 'object' && value !== null && 'maskLength' in value && 'first' in value;
