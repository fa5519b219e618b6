/** The Security Token Service of the simulated VPC: GetCallerIdentity, for requests that are really signed. */
import { type Context, Hono } from 'hono';
import { escapeXml } from '../ec2/ec2-xml.ts';
import { bodyText, type ConnectionEnv, drop, hang, sleep } from '../http.ts';
import { Ec2Error } from '../model/ec2-error.ts';
import type { Session } from '../model/sessions.ts';
import type { Vpc } from '../model/vpc.ts';
import { type Authorization, authorizationOf, checkSignature, type SignedRequest } from './signature.ts';

export interface StsApiOptions {
  /** Resolves after so many milliseconds; absent: a timer. */
  readonly wait?: (ms: number) => Promise<void>;
  /** The time of day, in milliseconds since 1970; absent: the machine's. */
  readonly wallClock?: () => number;
}

const API_VERSION = '2011-06-15';

/** `POST /` with a signature for the service `sts`; other requests go on to the next handler. Unlike EC2's face it checks
 *  the signature: against the credentials that instance metadata gave, and those of `POST /simulator/sessions`. */
export function createStsApi(vpc: Vpc, options: StsApiOptions): Hono<ConnectionEnv> {
  const { wait = sleep, wallClock = Date.now } = options;
  const timeOfDay = (): number => wallClock() + vpc.dayAheadMs;

  function sessionOf(request: SignedRequest, authorization: Authorization): Session {
    const session = vpc.sessions.find(authorization.accessKeyId);
    if (session === null || request.header('x-amz-security-token') !== session.token)
      throw new Ec2Error(
        'InvalidClientTokenId',
        'The security token included in the request is invalid.',
        403,
      );
    if (authorization.region !== vpc.region)
      throw new Ec2Error('SignatureDoesNotMatch', 'Credential should be scoped to a valid region.', 403);
    checkSignature(request, authorization, session.secretAccessKey, timeOfDay());
    return session;
  }

  const app = new Hono<ConnectionEnv>();
  app.post('/', async (c, next) => {
    if (!/^AWS4-HMAC-SHA256 Credential=\S+\/sts\/aws4_request,/.test(c.req.header('authorization') ?? ''))
      return await next();
    const body = await bodyText(c);
    const outcome = vpc.read('GetCallerIdentity', () => {
      const request = {
        method: 'POST',
        path: '/',
        body: body ?? '',
        header: (name: string) => c.req.header(name),
      };
      const session = sessionOf(request, authorizationOf(request));
      checkAction(new URLSearchParams(request.body));
      return session;
    });
    if (outcome.kind === 'never') return hang(c);
    if (outcome.afterMs > 0) await wait(outcome.afterMs);
    if (outcome.kind === 'dropped') return drop(c);
    return outcome.kind === 'answer' ? identityAnswer(c, outcome.value) : refusalAnswer(c, outcome.error);
  });
  return app;
}

function checkAction(form: URLSearchParams): void {
  const action = form.get('Action') ?? '';
  if (action !== 'GetCallerIdentity' || form.get('Version') !== API_VERSION)
    throw new Ec2Error('InvalidAction', `Could not find operation ${action} for version ${API_VERSION}`, 400);
}

const wantsJson = (c: Context): boolean => (c.req.header('accept') ?? '').includes('application/json');

function identityAnswer(c: Context, { account, role, name }: Session): Response {
  const result = {
    Arn: `arn:aws:sts::${account}:assumed-role/${role}/${name}`,
    UserId: `AROASIMULATEDSIMULATE:${name}`,
    Account: account,
  };
  if (wantsJson(c))
    return c.json({
      GetCallerIdentityResponse: { GetCallerIdentityResult: result, ResponseMetadata: { RequestId: '0' } },
    });
  const members = Object.entries(result).map(([tag, text]) => `<${tag}>${escapeXml(text)}</${tag}>`);
  return c.body(
    `<GetCallerIdentityResponse xmlns="https://sts.amazonaws.com/doc/${API_VERSION}/">` +
      `<GetCallerIdentityResult>${members.join('')}</GetCallerIdentityResult></GetCallerIdentityResponse>`,
    200,
    { 'content-type': 'text/xml' },
  );
}

function refusalAnswer(c: Context, { code, message, status }: Ec2Error): Response {
  if (wantsJson(c))
    return c.json({ Error: { Code: code, Message: message, Type: 'Sender' }, RequestId: '0' }, status as 403);
  return c.body(
    `<ErrorResponse xmlns="https://sts.amazonaws.com/doc/${API_VERSION}/"><Error><Type>Sender</Type>` +
      `<Code>${escapeXml(code)}</Code><Message>${escapeXml(message)}</Message></Error></ErrorResponse>`,
    status as 403,
    { 'content-type': 'text/xml' },
  );
}
