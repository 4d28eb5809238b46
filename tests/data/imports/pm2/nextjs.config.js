module.exports = {
  apps: [
    {
      name: "frontend",
      cwd: "/var/www/frontend",
      script: "npm",
      args: "run start -- --port '3001'",
      exp_backoff_restart_delay: 100,
    },
    {
      name: "next",
      cwd: "/var/www/next",
      script: "node_modules/next/dist/bin/next",
      args: ["start", "-p", "3002"],
      instances: 1,
      autorestart: true,
      watch: false,
    },
  ],
};
