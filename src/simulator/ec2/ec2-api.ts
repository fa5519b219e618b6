/** The EC2 Query API over HTTP: form bodies in, XML out. */
import { type Context, Hono } from 'hono';
import { bodyText, type ConnectionEnv, drop, hang, sleep } from '../http.ts';
import { type Caller, OWNER } from '../model/caller.ts';
import { Ec2Error } from '../model/ec2-error.ts';
import type { Outcome, Vpc } from '../model/vpc.ts';
import { ACTIONS } from './ec2-actions.ts';
import { escapeXml, renderXml, type Xml } from './ec2-xml.ts';
import { createParams } from './params.ts';

export interface Ec2ApiOptions {
  /** Resolves after so many milliseconds; absent: a timer. */
  readonly wait?: (ms: number) => Promise<void>;
  /** The time of day, in milliseconds since 1970; absent: the machine's. */
  readonly wallClock?: () => number;
}

const API_VERSION = '2016-11-15';
/** The largest age of a signature, and how far in the future it may be.
 *  https://docs.aws.amazon.com/IAM/latest/UserGuide/signature-v4-troubleshooting.html */
const SIGNATURE_LIFE_MS = 15 * 60_000;
const FUTURE_MS_MAX = 5 * 60_000;

/** `POST /`. A request must be signed, but any key is accepted: signatures are not verified. A key id of twelve digits
 *  is the caller's account. */
export function createEc2Api(vpc: Vpc, options: Ec2ApiOptions): Hono<ConnectionEnv> {
  const { wait = sleep, wallClock = Date.now } = options;
  const timeOfDay = (): number => wallClock() + vpc.dayAheadMs;
  const app = new Hono<ConnectionEnv>();
  app.post('/', async c => {
    const requestId = newRequestId(vpc.random);
    let outcome: Outcome<Xml>;
    let action = '';
    try {
      const caller = callerOf(c, timeOfDay());
      const body = await bodyText(c);
      if (body === null) throw new Ec2Error('RequestEntityTooLarge', 'Request is too large.', 413);
      const form = new URLSearchParams(body);
      action = form.get('Action') ?? '';
      outcome = callOf(action, form, vpc, caller)();
    } catch (error) {
      if (!(error instanceof Ec2Error)) throw error;
      outcome = { kind: 'refusal', error, afterMs: 0 };
    }
    if (outcome.kind === 'never') return hang(c);
    if (outcome.afterMs > 0) await wait(outcome.afterMs);
    if (outcome.kind === 'dropped') return drop(c);
    c.header('date', new Date(timeOfDay()).toUTCString());
    return outcome.kind === 'answer'
      ? answer(c, action, requestId, outcome.value)
      : refusalAnswer(c, requestId, outcome.error);
  });
  return app;
}

function callOf(action: string, form: URLSearchParams, vpc: Vpc, caller: Caller): () => Outcome<Xml> {
  const params = createParams(form);
  params.needed('Action');
  const make = Object.hasOwn(ACTIONS, action) ? ACTIONS[action] : undefined;
  if (make === undefined)
    throw new Ec2Error('InvalidAction', `The action ${action} is not valid for this web service.`);
  if (params.text('Version') !== API_VERSION)
    throw new Ec2Error('NoSuchVersion', `The requested version is not valid: it must be ${API_VERSION}`);
  const isDry = params.flag('DryRun') ?? false;
  const call = make(params, vpc, caller);
  params.checkAllKnown();
  return isDry ? () => vpc.dryRun(action) : call;
}

function callerOf(c: Context, now: number): Caller {
  const signed = /^AWS4-HMAC-SHA256 Credential=(\S+)\/aws4_request,/.exec(
    c.req.header('authorization') ?? '',
  );
  if (signed === null)
    throw new Ec2Error('MissingAuthenticationToken', 'Request is missing Authentication Token');
  const date = /^(\d{4})(\d\d)(\d\d)T(\d\d)(\d\d)(\d\d)Z$/.exec(c.req.header('x-amz-date') ?? '');
  if (date === null)
    throw new Ec2Error('IncompleteSignature', "Authorization header requires the 'X-Amz-Date' header");
  const [, year, month, day, hour, minute, second] = date.map(Number);
  const at = Date.UTC(year ?? 0, (month ?? 0) - 1, day, hour, minute, second);
  if (now - at > SIGNATURE_LIFE_MS) throw new Ec2Error('RequestExpired', 'Request has expired.');
  if (at - now > FUTURE_MS_MAX)
    throw new Ec2Error(
      'SignatureDoesNotMatch',
      `Signature not yet current: ${date[0]} is still later than ${new Date(now).toISOString()}`,
    );
  const account = /^\d{12}(?=\/)/.exec(signed[1] ?? '')?.[0];
  return account === undefined ? OWNER : { ...OWNER, account };
}

const HEADERS = { 'content-type': 'text/xml;charset=UTF-8', server: 'AmazonEC2' };
const PROLOGUE = '<?xml version="1.0" encoding="UTF-8"?>\n';

function answer(c: Context, action: string, requestId: string, value: Xml): Response {
  const body = `<requestId>${requestId}</requestId>${renderXml(value)}`;
  return c.body(
    `${PROLOGUE}<${action}Response xmlns="http://ec2.amazonaws.com/doc/${API_VERSION}/">${body}</${action}Response>`,
    200,
    { ...HEADERS, 'x-amzn-requestid': requestId },
  );
}

function refusalAnswer(c: Context, requestId: string, { code, message, status }: Ec2Error): Response {
  const error = `<Error><Code>${escapeXml(code)}</Code><Message>${escapeXml(message)}</Message></Error>`;
  return c.body(
    `${PROLOGUE}<Response><Errors>${error}</Errors><RequestID>${requestId}</RequestID></Response>`,
    status as 400,
    { ...HEADERS, 'x-amzn-requestid': requestId },
  );
}

function newRequestId(random: () => number): string {
  const digits = Array.from({ length: 32 }, () => Math.floor(random() * 16).toString(16)).join('');
  return digits.replace(/^(.{8})(.{4})(.{4})(.{4})/, '$1-$2-$3-$4-');
}
