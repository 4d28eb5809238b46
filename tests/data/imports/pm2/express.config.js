const path = require('path');
const common = { max_memory_restart: '300M', time: true };

console.log('loading the ecosystem');

module.exports = {
  apps: [
    {
      name: 'api',
      script: './dist/main.js',
      instances: 'max',
      exec_mode: 'cluster',
      ...common,
      env: {
        NODE_ENV: 'development',
        PORT: 3000,
      },
      env_production: {
        NODE_ENV: 'production',
      },
      error_file: './logs/err.log',
      out_file: './logs/out.log',
      merge_logs: true,
      log_date_format: 'YYYY-MM-DD HH:mm:ss Z',
      wait_ready: true,
      listen_timeout: 10000,
      kill_timeout: 5000,
    },
    {
      name: 'mail queue',
      script: './dist/queue.js',
      cwd: path.join('/srv', 'queue'),
      instances: 2,
      exec_mode: 'fork',
      restart_delay: 4000,
      max_restarts: 10,
      min_uptime: '10s',
    },
  ],
};
