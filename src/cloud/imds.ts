import { IpamError } from '../domain/error.ts';

export const IMDS_ENDPOINT = 'http://169.254.169.254';
const TIMEOUT_MS = 2000;
const TOKEN_SECONDS = 60;

/** One value of the instance metadata service, by IMDSv2. Throws unavailable: no EC2 instance, or no such value.
 *  https://docs.aws.amazon.com/AWSEC2/latest/UserGuide/configuring-instance-metadata-service.html */
export async function readMetadata(path: string, endpoint: string): Promise<string> {
  const ask = async (method: string, where: string, headers: Record<string, string>): Promise<string> => {
    const signal = AbortSignal.timeout(TIMEOUT_MS);
    const answer = await fetch(`${endpoint.replace(/\/$/, '')}/latest/${where}`, { method, headers, signal });
    const text = await answer.text();
    if (!answer.ok) throw new Error(`HTTP status ${answer.status}`);
    return text.trim();
  };
  try {
    const token = await ask('PUT', 'api/token', {
      'X-aws-ec2-metadata-token-ttl-seconds': String(TOKEN_SECONDS),
    });
    return await ask('GET', `meta-data/${path}`, { 'X-aws-ec2-metadata-token': token });
  } catch (error) {
    throw new IpamError(
      'unavailable',
      `instance metadata ${path} can't be read: ${(error as Error).message}`,
      {
        hint: 'is this an EC2 instance, and may this process reach 169.254.169.254?',
        cause: error,
      },
    );
  }
}
