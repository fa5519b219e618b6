/** The simulator as one HTTP app: STS and EC2 at `POST /`, IMDSv2 under `/latest`, its own API under `/simulator`. */
import { Hono } from 'hono';
import { createAdminApi } from './admin-api.ts';
import { createEc2Api, type Ec2ApiOptions } from './ec2/ec2-api.ts';
import type { ConnectionEnv } from './http.ts';
import { createImdsApi, type ImdsOptions } from './imds/imds-api.ts';
import type { Vpc } from './model/vpc.ts';
import { createStsApi, type StsApiOptions } from './sts/sts-api.ts';

/** Must be served by @hono/node-server: only then can it close a connection without a response. */
export function createSimulator(
  vpc: Vpc,
  options: ImdsOptions & Ec2ApiOptions & StsApiOptions,
): Hono<ConnectionEnv> {
  return new Hono<ConnectionEnv>()
    .route('/', createStsApi(vpc, options))
    .route('/', createEc2Api(vpc, options))
    .route('/', createImdsApi(vpc, options))
    .route('/', createAdminApi(vpc));
}
