import { Hono } from 'hono';
import type { InstanceId } from '../domain/ids.ts';
import { adminFace } from './admin-face.ts';
import type { ConnectionEnv } from './connection.ts';
import { ec2Face, type FaceOptions } from './ec2/ec2-face.ts';
import { imdsFace } from './imds/imds-face.ts';
import type { Vpc } from './model/vpc.ts';

export interface SimulatorOptions extends FaceOptions {
  /** The instance whose metadata service this is. */
  readonly instance: InstanceId;
}

/** The VPC with all its faces on one address: EC2 at `POST /`, IMDSv2 under `/latest`, its own API under
 *  `/simulator`. To be served by @hono/node-server, so that connections can be dropped. */
export function simulatorApp(vpc: Vpc, options: SimulatorOptions): Hono<ConnectionEnv> {
  return new Hono<ConnectionEnv>()
    .route('/', ec2Face(vpc, options))
    .route('/', imdsFace(vpc, options))
    .route('/', adminFace(vpc));
}
